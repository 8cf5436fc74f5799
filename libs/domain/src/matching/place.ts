import {
  LEASES_AHEAD,
  obstacle,
  ROWS_UNACCEPTED_MAX,
  servedModel,
  type Ask,
  type Candidate,
  type ServedModel,
} from './constraints.ts';
import { microCost, type Usage } from '../units/units.ts';

/** A job with rows that wait for a slot. */
export interface Demand {
  readonly ask: Ask;
  readonly deadlineInMs: number;
  readonly ageMs: number;
  readonly nextRow: number;
  readonly rowCount: number;
  /** Tasks that came back, in row order. */
  readonly queued: readonly {
    readonly taskId: string;
    readonly epoch: number;
    readonly rowFrom: number;
    readonly rowTo: number;
    readonly lastNode: string | null;
  }[];
}

/** One lease that the placement wants. `taskId` null cuts the rows from the job. */
export interface Placement {
  readonly jobId: string;
  readonly taskId: string | null;
  readonly epoch: number;
  readonly rowFrom: number;
  readonly rowTo: number;
  readonly nodeId: string;
  readonly model: ServedModel;
}

/** Tasks are cut to about this much of the node's measured time: long enough to amortise a round trip, short enough to lose. */
export const TASK_TARGET_MS = 8_000;
/** Rows of a node nobody has measured or audited yet. */
export const NEWCOMER_ROWS = 16;
export const TASK_ROWS_MAX = 512;
/** A node is measured by its audits until it has this many accepted rows (WORDS.md, verify dial). */
export const NEWCOMER_ACCEPTED_ROWS = 30;

/**
 * The first placement: jobs by urgency, each task to a feasible node, cheapest first, warm before cold, fastest among equals.
 * Pure: the same snapshot gives the same answer. Binds late: only free capacity is used, at most {@link LEASES_AHEAD} per node.
 */
export function placeTasks(demands: readonly Demand[], candidates: readonly Candidate[]): Placement[] {
  const nodes = candidates.map((node) => ({ ...node }));
  const placements: Placement[] = [];
  for (const demand of [...demands].sort(byUrgency)) placeJob(demand, nodes, placements);
  return placements;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function placeJob(demand: Demand, nodes: Mutable<Candidate>[], placements: Placement[]): void {
  const queued = [...demand.queued];
  let nextRow = demand.nextRow;
  // First rounds give every fitting node one lease before any gets its second: rows spread, deaths cost less.
  for (let round = 0; round < LEASES_AHEAD; round += 1) {
    for (const node of inOrder(demand.ask, nodes)) {
      if (node.leasesActive > round) continue;
      const left = queued.reduce((rows, task) => rows + task.rowTo - task.rowFrom, demand.rowCount - nextRow);
      if (left === 0) return;
      const model = servedModel(demand.ask, node);
      if (model === undefined) continue;
      const returned = takeReturned(queued, node.nodeId, nodes.length);
      const rows =
        returned === undefined
          ? rowsFor(node, model, demand.rowCount - nextRow, nodes.length)
          : returned.rowTo - returned.rowFrom;
      if (rows <= 0) continue;
      placements.push({
        jobId: demand.ask.jobId,
        taskId: returned?.taskId ?? null,
        epoch: returned?.epoch ?? 1,
        rowFrom: returned?.rowFrom ?? nextRow,
        rowTo: returned?.rowTo ?? nextRow + rows,
        nodeId: node.nodeId,
        model,
      });
      if (returned === undefined) nextRow += rows;
      node.leasesActive += 1;
      node.rowsUnaccepted += rows;
    }
  }
}

/** A task goes back to the node that lost it only when there is no other node. */
function takeReturned(
  queued: Demand['queued'][number][],
  nodeId: string,
  nodes: number,
): Demand['queued'][number] | undefined {
  const index = queued.findIndex((task) => nodes === 1 || task.lastNode !== nodeId);
  return index < 0 ? undefined : queued.splice(index, 1)[0];
}

/**
 * Rows worth about {@link TASK_TARGET_MS} of this node; towards the end of a job the rest is shared out evenly. A node of
 * unknown speed (0) gets a newcomer's task whatever its record: one row at a time would be all overhead and audits.
 */
function rowsFor(node: Candidate, model: ServedModel, left: number, nodes: number): number {
  const isMeasured = node.rowsAccepted >= NEWCOMER_ACCEPTED_ROWS && model.rowsPerSecond > 0;
  const measured = isMeasured ? Math.max(1, Math.round((model.rowsPerSecond * TASK_TARGET_MS) / 1_000)) : NEWCOMER_ROWS;
  const share = Math.max(8, Math.ceil(left / Math.max(1, nodes)));
  return Math.min(left, measured, share, TASK_ROWS_MAX, ROWS_UNACCEPTED_MAX - node.rowsUnaccepted);
}

function inOrder(ask: Ask, nodes: Mutable<Candidate>[]): Mutable<Candidate>[] {
  return nodes
    .filter((node) => obstacle(ask, node) === null)
    .map((node) => ({ node, price: effectivePrice(ask, node), model: servedModel(ask, node) }))
    .sort(
      (a, b) =>
        compareBig(a.price, b.price) ||
        Number(b.model?.loaded ?? false) - Number(a.model?.loaded ?? false) ||
        (b.model?.rowsPerSecond ?? 0) - (a.model?.rowsPerSecond ?? 0) ||
        (a.node.nodeId < b.node.nodeId ? -1 : 1),
    )
    .map(({ node }) => node);
}

/** A typical row, to compare rates of several kinds by one number: 100 tokens in, 30 out, as many embedded. */
const TYPICAL_ROW: Usage = { inputToken: 100n, outputToken: 30n, embeddingToken: 100n };

function effectivePrice(ask: Ask, node: Candidate): bigint {
  return microCost(TYPICAL_ROW, servedModel(ask, node)?.rates ?? {});
}

/** Least slack first; a job that waits gains on one that just came, so that none starves. */
function byUrgency(a: Demand, b: Demand): number {
  return a.deadlineInMs - a.ageMs - (b.deadlineInMs - b.ageMs) || (a.ask.jobId < b.ask.jobId ? -1 : 1);
}

function compareBig(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
