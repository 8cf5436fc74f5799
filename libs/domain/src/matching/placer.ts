import type { Candidate } from './ask.ts';
import type { Demand, Placement } from './demand.ts';
import { fnv1a } from './fnv.ts';
import { FragmentationGauge } from './fragmentation.ts';
import { GangDesk, type Moment, type Reservation } from './gang-desk.ts';
import { packingOf } from './packing.ts';
import type { TieKey } from './placement-index/node-order.ts';
import { PlacementIndex } from './placement-index/placement-index.ts';
import { byUrgency } from './queue-order.ts';
import { Round, type Kept, type Mutable } from './round.ts';
import type { FleetEconomy } from './score.ts';

export { AVOID_MS } from './round.ts';

/** Offers that no node makes any more stay in the index; beyond so many per node it is made anew. */
const GROUPS_PER_NODE = 4;
const GROUPS_SPARE = 64;

/** Rows run in engines that are there already: nothing of a GPU is stranded by them. */
export const ENGINES_STAND: FleetEconomy = {
  gauge: new FragmentationGauge([]),
  packing: packingOf([]),
  strandedMilliCost: 0,
};

/**
 * The placement with its index kept from one decision to the next: a decision then looks at what changed. It answers as
 * `placeTasks` does over the same nodes; a test holds it to that, whatever came and went before.
 */
export class Placer {
  readonly #seed: number;
  readonly #nodes = new Map<string, Mutable<Candidate>>();
  readonly #desk = new GangDesk();
  /** Null when it has to be made: at first, for a node with more GPUs than any before, and when most offers in it are nobody's. */
  #kept: Kept | null = null;
  #gpusPerNodeMax = 1;

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
    this.#gpusPerNodeMax = Math.max(this.#gpusPerNodeMax, node.gpus.length);
    if (this.#kept?.index.holds(node) !== true) {
      this.#kept = null;
      return;
    }
    this.#kept.nodes[this.#kept.index.put(node)] = node;
    if (this.#kept.index.groups > GROUPS_PER_NODE * this.#nodes.size + GROUPS_SPARE) this.#kept = null;
  }

  drop(nodeId: string): void {
    if (!this.#nodes.delete(nodeId) || this.#kept === null) return;
    const number = this.#kept.index.numberOf(nodeId);
    this.#kept.index.drop(nodeId);
    if (number !== undefined) this.#kept.nodes[number] = undefined;
  }

  /** Nodes that stand idle for gangs, as of the last decision. */
  reservations(): readonly Reservation[] {
    return this.#desk.reservations();
  }

  /**
   * Decides, and counts what it decided as placed. What is not to be after all is put again with its old load. Without `moment` nothing
   * is kept for a gang that cannot begin.
   */
  place(
    demands: readonly Demand[],
    placementsMax = Number.POSITIVE_INFINITY,
    moment: Moment | null = null,
  ): Placement[] {
    this.#kept ??= this.#made();
    this.#kept.index.beginDecision();
    if (moment !== null) this.#desk.expire(moment);
    const round = new Round(this.#kept, placementsMax, this.#desk, moment);
    for (const demand of [...demands].sort(byUrgency)) {
      if (demand.isRun === true) round.run(demand);
      else if (demand.gang !== undefined) round.gang(demand, demand.gang);
      else round.job(demand);
    }
    round.end();
    return round.placements;
  }

  #made(): Kept {
    const tieKey = tieKeyOf(this.#seed);
    const index = new PlacementIndex(Math.max(1, this.#nodes.size), ENGINES_STAND, {
      gpusPerNodeMax: this.#gpusPerNodeMax,
      tieKey,
    });
    const nodes: Kept['nodes'] = [];
    for (const node of this.#nodes.values()) nodes[index.put(node)] = node;
    return { index, nodes };
  }
}

/** Among equals: by name where there is no seed, else in an order that each seed makes anew. */
export function tieKeyOf(seed: number): TieKey {
  return seed === 0 ? () => 0 : (nodeId) => fnv1a(nodeId, seed);
}
