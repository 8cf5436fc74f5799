import type { Ask, Candidate, ServedModel } from './ask.ts';
import { LEASES_AHEAD, ROWS_UNACCEPTED_MAX, servedModel } from './constraints.ts';
import { FragmentationGauge } from './fragmentation.ts';
import { packingOf } from './packing.ts';
import { PlacementIndex } from './placement-index/placement-index.ts';
import { byUrgency } from './queue-order.ts';
import { SEGMENTS_PER_LEASE_MAX } from '../training/segments.ts';
import type { FleetEconomy } from './score.ts';

/** A job with rows that wait for a slot. */
export interface Demand {
  readonly ask: Ask;
  readonly ageMs: number;
  /** 0 is usual; see {@link byUrgency}. */
  readonly priority?: number;
  readonly nextRow: number;
  readonly rowCount: number;
  /** Each row stands on the one before: one lease at a time, from the first open row on. */
  readonly isRun?: boolean;
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

/** Rows run in engines that are there already: nothing of a GPU is stranded by them. */
export const ENGINES_STAND: FleetEconomy = {
  gauge: new FragmentationGauge([]),
  packing: packingOf([]),
  strandedMilliCost: 0,
};

/**
 * Jobs by urgency, each task to the feasible node where it costs least, all terms counted (`score.ts`). A node gets its second
 * lease when every fitting node has its first. Binds late: only free capacity is used, at most {@link LEASES_AHEAD} per node.
 *
 * Pure: the same snapshot and seed give the same answer. The seed decides between nodes that cost the same; with 0 the one
 * with the smallest id wins.
 */
export function placeTasks(demands: readonly Demand[], candidates: readonly Candidate[], seed = 0): Placement[] {
  const nodes = inSeededOrder(candidates, seed);
  const gpusPerNodeMax = nodes.reduce((most, node) => Math.max(most, node.gpus.length), 1);
  const index = new PlacementIndex(Math.max(1, nodes.length), ENGINES_STAND, { gpusPerNodeMax });
  for (const node of nodes) index.put(node);
  const placements: Placement[] = [];
  for (const demand of [...demands].sort(byUrgency))
    (demand.isRun === true ? placeRun : placeJob)(demand, index, nodes, placements);
  return placements;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function placeJob(demand: Demand, index: PlacementIndex, nodes: Mutable<Candidate>[], placements: Placement[]): void {
  const { ask } = demand;
  const { jobId } = ask;
  for (const returned of demand.queued) {
    // A task goes back to the node that lost it only when there is no other node.
    const found = seat(ask, index, nodes, nodes.length === 1 ? null : returned.lastNode);
    if (found === null) continue;
    const { taskId, epoch, rowFrom, rowTo } = returned;
    placements.push({ jobId, taskId, epoch, rowFrom, rowTo, nodeId: found.node.nodeId, model: found.model });
    load(index, found.node, rowTo - rowFrom);
  }
  for (let rowFrom = demand.nextRow; rowFrom < demand.rowCount;) {
    const found = seat(ask, index, nodes, null);
    if (found === null) return;
    const rowTo = rowFrom + rowsFor(found.node, found.model, demand.rowCount - rowFrom, nodes.length);
    placements.push({ jobId, taskId: null, epoch: 1, rowFrom, rowTo, nodeId: found.node.nodeId, model: found.model });
    load(index, found.node, rowTo - rowFrom);
    rowFrom = rowTo;
  }
}

/** One lease of a run: the task that came back first, or else the rows that nobody had yet. */
function placeRun(demand: Demand, index: PlacementIndex, nodes: Mutable<Candidate>[], placements: Placement[]): void {
  const { ask } = demand;
  const [returned] = demand.queued;
  const rowFrom = returned?.rowFrom ?? demand.nextRow;
  const rowTo = returned?.rowTo ?? Math.min(demand.rowCount, rowFrom + SEGMENTS_PER_LEASE_MAX);
  if (rowTo <= rowFrom) return;
  const avoid = returned?.lastNode ?? null;
  const found = seat(ask, index, nodes, avoid) ?? (avoid === null ? null : seat(ask, index, nodes, null));
  if (found === null) return;
  const { taskId = null, epoch = 1 } = returned ?? {};
  placements.push({ jobId: ask.jobId, taskId, epoch, rowFrom, rowTo, nodeId: found.node.nodeId, model: found.model });
  load(index, found.node, rowTo - rowFrom);
}

function seat(
  ask: Ask,
  index: PlacementIndex,
  nodes: Mutable<Candidate>[],
  avoid: string | null,
): { node: Mutable<Candidate>; model: ServedModel } | null {
  const choice = index.best(index.classOf(ask), avoid, ask.cachedOn);
  const node = choice === null ? undefined : nodes[choice.node];
  const model = node === undefined ? undefined : servedModel(ask, node);
  return node === undefined || model === undefined ? null : { node, model };
}

function load(index: PlacementIndex, node: Mutable<Candidate>, rows: number): void {
  node.leasesActive += 1;
  node.rowsUnaccepted += rows;
  const takesMore = node.leasesActive < LEASES_AHEAD && node.rowsUnaccepted < ROWS_UNACCEPTED_MAX;
  index.setLoad(index.numberOf(node.nodeId) ?? 0, node.leasesActive, takesMore);
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

function inSeededOrder(candidates: readonly Candidate[], seed: number): Mutable<Candidate>[] {
  const keyed = candidates.map((node) => ({ node: { ...node }, key: seed === 0 ? 0 : seededKey(seed, node.nodeId) }));
  keyed.sort((a, b) => a.key - b.key || (a.node.nodeId < b.node.nodeId ? -1 : 1));
  return keyed.map(({ node }) => node);
}

/** FNV-1a over the id, from the seed. */
function seededKey(seed: number, id: string): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < id.length; i += 1) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}
