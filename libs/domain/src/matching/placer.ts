import { SEGMENTS_PER_LEASE_MAX } from '../training/segments.ts';
import type { Ask, Candidate, ServedModel } from './ask.ts';
import { LEASES_AHEAD, ROWS_UNACCEPTED_MAX } from './constraints.ts';
import type { Demand, Placement } from './demand.ts';
import { fnv1a } from './fnv.ts';
import { FragmentationGauge } from './fragmentation.ts';
import { packingOf } from './packing.ts';
import { PlacementIndex, type TaskClass } from './placement-index/placement-index.ts';
import { byUrgency } from './queue-order.ts';
import type { FleetEconomy } from './score.ts';
import { servedModel } from './served-model.ts';
import { rowsFor } from './task-size.ts';

/** So long a task that came back waits for another node than the one that lost it; a task runs {@link TASK_TARGET_MS}. */
export const AVOID_MS = 10_000;
/** Time left is rounded down to this many binary digits: a deadline that comes nearer is the same wish for a while. */
const DEADLINE_DIGITS = 6;
/** Offers that no node makes any more stay in the index; beyond so many per node it is made anew. */
const GROUPS_PER_NODE = 4;
const GROUPS_SPARE = 64;

/** Rows run in engines that are there already: nothing of a GPU is stranded by them. */
export const ENGINES_STAND: FleetEconomy = {
  gauge: new FragmentationGauge([]),
  packing: packingOf([]),
  strandedMilliCost: 0,
};

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface Kept {
  readonly index: PlacementIndex;
  /** By their numbers in the index: in the order of the seed. */
  readonly nodes: Mutable<Candidate>[];
}

/**
 * The placement with its index kept from one decision to the next: a decision then looks at what changed. It answers as
 * `placeTasks` does over the same nodes; a test holds it to that, whatever came and went before.
 */
export class Placer {
  readonly #seed: number;
  readonly #nodes = new Map<string, Mutable<Candidate>>();
  /** Null when it has to be made: nodes came or went, and their numbers decide ties. */
  #kept: Kept | null = null;

  constructor(seed = 0) {
    this.#seed = seed;
  }

  get size(): number {
    return this.#nodes.size;
  }

  /** The nodes as they stand: free or not, usable or not. */
  candidates(): Iterable<Candidate> {
    return this.#nodes.values();
  }

  /** A node as it stands. */
  candidate(nodeId: string): Candidate | undefined {
    return this.#nodes.get(nodeId);
  }

  /** Whether any node takes more work, whatever it is. */
  get hasRoom(): boolean {
    return this.#nodes.size > 0 && (this.#kept === null || this.#kept.index.states > 0);
  }

  /** States scored by the index as it stands: what decisions really look at. */
  get examined(): number {
    return this.#kept?.index.examined ?? 0;
  }

  /** Different offers in the index: the nodes' own, and some that no node makes any more. */
  get groups(): number {
    return this.#kept?.index.groups ?? 0;
  }

  /** Adds a node, or takes in how it stands now. */
  put(candidate: Candidate): void {
    const node = { ...candidate };
    this.#nodes.set(node.nodeId, node);
    const number = this.#kept?.index.numberOf(node.nodeId);
    if (this.#kept === null || number === undefined || !this.#kept.index.holds(node)) {
      this.#kept = null;
      return;
    }
    this.#kept.nodes[number] = node;
    this.#kept.index.put(node);
    if (this.#kept.index.groups > GROUPS_PER_NODE * this.#nodes.size + GROUPS_SPARE) this.#kept = null;
  }

  drop(nodeId: string): void {
    if (this.#nodes.delete(nodeId)) this.#kept = null;
  }

  /** Decides, and counts what it decided as placed. What is not to be after all is put again with its old load. */
  place(demands: readonly Demand[], placementsMax = Number.POSITIVE_INFINITY): Placement[] {
    this.#kept ??= this.#made();
    this.#kept.index.beginDecision();
    const round = new Round(this.#kept, placementsMax);
    for (const demand of [...demands].sort(byUrgency)) {
      if (demand.isRun === true) round.run(demand);
      else round.job(demand);
    }
    return round.placements;
  }

  #made(): Kept {
    const nodes = inSeededOrder([...this.#nodes.values()], this.#seed);
    const gpusPerNodeMax = nodes.reduce((most, node) => Math.max(most, node.gpus.length), 1);
    const index = new PlacementIndex(Math.max(1, nodes.length), ENGINES_STAND, { gpusPerNodeMax });
    for (const node of nodes) index.put(node);
    return { index, nodes };
  }
}

/** One decision. */
class Round {
  readonly placements: Placement[] = [];
  readonly #kept: Kept;
  readonly #placementsMax: number;
  /** Models that a node has to load for what was decided: what another load of them is worth, the next decision knows. */
  readonly #loading = new Set<string>();

  constructor(kept: Kept, placementsMax: number) {
    this.#kept = kept;
    this.#placementsMax = placementsMax;
  }

  job(demand: Demand): void {
    const ask = coarse(demand.ask);
    const { index } = this.#kept;
    // Nodes that serve other models share no rows of this one, and nobody waits for them: those that could serve it count.
    for (const returned of demand.queued) {
      // A task goes back to the node that lost it when no other could serve it, or when no other had room for a while.
      const isPatient =
        returned.lastNode !== null && (returned.waitedMs ?? 0) < AVOID_MS && index.serving(this.#classOf(ask)) > 1;
      const found = this.#seat(ask, isPatient ? returned.lastNode : null);
      if (found !== null) this.#take(ask.jobId, returned, found);
    }
    for (let rowFrom = demand.nextRow; rowFrom < demand.rowCount;) {
      const found = this.#seat(ask, null);
      if (found === null) return;
      const rowTo = rowFrom + rowsFor(found.node, found.model, demand.rowCount - rowFrom, index.serving(found.task));
      this.#take(ask.jobId, { taskId: null, epoch: 1, rowFrom, rowTo }, found);
      rowFrom = rowTo;
    }
  }

  /** One lease of a run: the task that came back first, or else the rows that nobody had yet. */
  run(demand: Demand): void {
    const ask = coarse(demand.ask);
    const [returned] = demand.queued;
    const rowFrom = returned?.rowFrom ?? demand.nextRow;
    const rowTo = returned?.rowTo ?? Math.min(demand.rowCount, rowFrom + SEGMENTS_PER_LEASE_MAX);
    if (rowTo <= rowFrom) return;
    const avoid = returned?.lastNode ?? null;
    const found = this.#seat(ask, avoid) ?? (avoid === null ? null : this.#seat(ask, null));
    if (found === null) return;
    const { taskId = null, epoch = 1 } = returned ?? {};
    this.#take(ask.jobId, { taskId, epoch, rowFrom, rowTo }, found);
  }

  #seat(ask: Ask, avoid: string | null): Seat | null {
    if (this.placements.length >= this.#placementsMax) return null;
    const { index, nodes } = this.#kept;
    const task = this.#classOf(ask);
    const choice = index.best(task, avoid, ask.cachedOn);
    const node = choice === null ? undefined : nodes[choice.node];
    const model = node === undefined ? undefined : servedModel(task.ask, node);
    return node === undefined || model === undefined ? null : { node, model, task };
  }

  #classOf(ask: Ask): TaskClass {
    const isLoading = ask.loadGainS !== undefined && this.#loading.has(ask.model ?? '');
    const wished = isLoading ? { ...ask, loadGainS: 0 } : ask;
    return this.#kept.index.classOf(wished);
  }

  #take(
    jobId: string,
    { taskId, epoch, rowFrom, rowTo }: Pick<Placement, 'taskId' | 'epoch' | 'rowFrom' | 'rowTo'>,
    { node, model }: Seat,
  ): void {
    this.placements.push({ jobId, taskId, epoch, rowFrom, rowTo, nodeId: node.nodeId, model });
    if (!model.loaded) this.#loading.add(model.name);
    node.leasesActive += 1;
    node.rowsUnaccepted += rowTo - rowFrom;
    const takesMore = node.leasesActive < LEASES_AHEAD && node.rowsUnaccepted < ROWS_UNACCEPTED_MAX;
    const { index } = this.#kept;
    index.setLoad(index.numberOf(node.nodeId) ?? 0, node.leasesActive, takesMore);
  }
}

interface Seat {
  readonly node: Mutable<Candidate>;
  readonly model: ServedModel;
  readonly task: TaskClass;
}

/** The class of a wish stands while its time left has the same first digits: rounded down, never later than it is. */
function coarse(ask: Ask): Ask {
  const { deadlineInMs } = ask;
  if (!(deadlineInMs > 0) || !Number.isFinite(deadlineInMs)) return ask;
  const step = 2 ** (Math.floor(Math.log2(deadlineInMs)) - DEADLINE_DIGITS + 1);
  return { ...ask, deadlineInMs: Math.floor(deadlineInMs / step) * step };
}

function inSeededOrder(nodes: readonly Mutable<Candidate>[], seed: number): Mutable<Candidate>[] {
  const keyed = nodes.map((node) => ({ node, key: seed === 0 ? 0 : fnv1a(node.nodeId, seed) }));
  keyed.sort((a, b) => a.key - b.key || (a.node.nodeId < b.node.nodeId ? -1 : 1));
  return keyed.map(({ node }) => node);
}
