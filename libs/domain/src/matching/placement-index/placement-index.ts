import type { Ask, Candidate } from '../ask.ts';
import { costOf, scoreTerms, seatOn, totalOf, type FleetEconomy, type Seat } from '../score.ts';
import { ClassRanking } from './class-ranking.ts';
import { NodeOrder, type TieKey } from './node-order.ts';
import { NodeStates } from './node-states.ts';
import type { NodeTable } from './node-table.ts';
import type { OfferGroups } from './offer-groups.ts';
import type { StateTable } from './state-table.ts';
import { CLASSES_MAX, fixedCost, TaskClasses, type TaskClass } from './task-classes.ts';

export type { TaskClass } from './task-classes.ts';

const NONE = -1;
/** Most machines have eight at most, and each place costs two bytes per node. */
const GPUS_USUAL = 8;
/** As many as an offer may name. */
export const GPUS_PER_NODE_MAX = 64;

/** Where a task goes. */
export interface Choice {
  /** Number of the node in the index. */
  readonly node: number;
  readonly cost: number;
  /** Which of its GPUs, in the order of its offer. */
  readonly gpus: readonly number[];
}

export interface IndexOptions {
  readonly gpusPerNodeMax?: number;
  readonly classesMax?: number;
  /** Who comes first among equals; absent: by number, which is the order in which nodes come as long as none goes. */
  readonly tieKey?: TieKey;
}

/**
 * Nodes by what they offer and what of it is free, in typed arrays, so that the best node for a task is found without looking
 * at nodes. Gives the same answer as a scan of all of them ({@link bestByScan}); a test holds it to that.
 *
 * A node is in one *state*: its group (all that the offer says), free GPU milli, processor and memory, and its leases. Costs
 * are kept per (class of tasks × state); a placement changes the states of one node, and nothing else is computed again. Nor is it
 * when a node comes or goes.
 */
export class PlacementIndex {
  readonly #economy: FleetEconomy;
  readonly #order: NodeOrder;
  readonly #fleet: NodeStates;
  readonly #nodes: NodeTable;
  readonly #states: StateTable;
  readonly #groups: OfferGroups;
  readonly #classes: TaskClasses;
  readonly #seat: Seat = { at: 0, strandedMilli: 0 };
  /** States scored since the index was made: what a decision really looks at. */
  examined = 0;

  /** @param nodes As many there is room for at first. */
  constructor(
    nodes: number,
    economy: FleetEconomy,
    { gpusPerNodeMax = GPUS_USUAL, classesMax = CLASSES_MAX, tieKey }: IndexOptions = {},
  ) {
    const stride = Math.min(gpusPerNodeMax, GPUS_PER_NODE_MAX);
    this.#economy = economy;
    this.#order = new NodeOrder(tieKey ?? null);
    this.#fleet = new NodeStates(nodes, stride, this.#order, economy);
    this.#nodes = this.#fleet.nodes;
    this.#states = this.#fleet.states;
    this.#groups = this.#fleet.groups;
    this.#classes = new TaskClasses(
      classesMax,
      (task) => new ClassRanking(this.#states, this.#order, (state) => this.#stateCost(task, state)),
    );
  }

  get nodes(): number {
    return this.#nodes.size;
  }

  get states(): number {
    return this.#states.occupied;
  }

  /** States that rankings have looked at, most of them at a cost that was known: also what is not scored again takes time. */
  get looked(): number {
    return this.#classes.looked;
  }

  /** Offers of which all was asked that stands while they do: once for all asks that differ in their time left alone. */
  get judged(): number {
    return this.#classes.judged;
  }

  /** Different offers known, also those that no node makes any more. */
  get groups(): number {
    return this.#groups.size;
  }

  get classes(): number {
    return this.#classes.size;
  }

  /** Whether a node with so many GPUs has a place here. */
  holds({ gpus }: Pick<Candidate, 'gpus'>): boolean {
    return gpus.length <= this.#nodes.stride;
  }

  idOf(node: number): string {
    return this.#nodes.idOf(node);
  }

  numberOf(nodeId: string): number | undefined {
    return this.#nodes.numberOf(nodeId);
  }

  /** Adds a node, or takes in what is new about it. A newcomer has a number that is free. */
  put(node: Candidate): number {
    return this.#fleet.put(node);
  }

  drop(nodeId: string): void {
    this.#fleet.drop(nodeId);
  }

  /** Takes in how many leases a node holds, and whether it takes more. */
  setLoad(node: number, leasesActive: number, takesMore: boolean): void {
    this.#fleet.setLoad(node, leasesActive, takesMore);
  }

  /** Keeps a node from all new work until {@link release}: it is reserved. */
  hold(node: number): void {
    this.#fleet.hold(node);
  }

  release(node: number): void {
    this.#fleet.release(node);
  }

  /** The class of an ask: compiled once, then found by what it wants. */
  classOf(ask: Ask): TaskClass {
    return this.#classes.of(ask);
  }

  /** Another decision begins: what was asked for in the last few is worth its room. */
  beginDecision(): void {
    this.#classes.beginDecision();
  }

  /** Nodes that could serve a task of this class, whether or not they have room for it now. */
  serving(task: TaskClass): number {
    return this.#fleet.serving.read(
      task.serving,
      (group) => fixedCost(task, this.#groups, group) !== Number.POSITIVE_INFINITY,
    );
  }

  #stateCost(task: TaskClass, state: number): number {
    this.examined += 1;
    const fixed = fixedCost(task, this.#groups, this.#states.group[state] ?? 0);
    return fixed === Number.POSITIVE_INFINITY || !this.#seatIn(task.ask, state)
      ? Number.POSITIVE_INFINITY
      : costOf(fixed, this.#states.load[state] ?? 0, this.#seat.strandedMilli, this.#economy);
  }

  #seatIn(ask: Ask, state: number): boolean {
    const states = this.#states;
    if (ask.alone === true && (states.load[state] ?? 0) > 0) return false;
    const node = {
      modelBit: this.#groups.at(states.group[state] ?? 0)?.modelBit ?? 0,
      cpuMilli: states.cpuMilli[state] ?? 0,
      memoryMib: states.memoryMib[state] ?? 0,
      gpus: states.gpus[state] ?? 0,
    };
    return seatOn(this.#economy, ask, node, states.free, state * states.stride, this.#seat);
  }

  /**
   * The best node for a task of this class, or null. Ties go to the first in the order of the nodes.
   *
   * @param avoid A node to leave out, as the one that just lost the task.
   * @param cachedOn Prompt tokens that a few nodes hold; each of them is judged with what that saves.
   */
  best(task: TaskClass, avoid: string | null = null, cachedOn?: ReadonlyMap<string, number>): Choice | null {
    const avoided = avoid === null ? undefined : this.#nodes.numberOf(avoid);
    const state = avoided === undefined ? NONE : (this.#nodes.stateOf[avoided] ?? NONE);
    if (avoided !== undefined && state !== NONE) this.#states.leave(state, avoided);
    const best = task.ranking.best();
    let node = best === NONE ? NONE : (this.#states.head[best] ?? NONE);
    let cost = node === NONE ? Number.POSITIVE_INFINITY : task.ranking.costAt(best);
    for (const [nodeId, tokens] of cachedOn ?? []) {
      const near = this.#nodes.numberOf(nodeId);
      if (near === undefined || near === avoided) continue;
      const nearCost = this.#costWithCache(task, near, tokens);
      if (nearCost < cost || (nearCost === cost && this.#order.before(near, node))) [node, cost] = [near, nearCost];
    }
    if (avoided !== undefined && state !== NONE) this.#states.enter(state, avoided);
    return node === NONE || cost === Number.POSITIVE_INFINITY ? null : { node, cost, gpus: this.#gpusFor(task, node) };
  }

  /** A place for a task of this class on one node, or null. */
  seatAt(task: TaskClass, node: number): Choice | null {
    const cost = this.#costWithCache(task, node, 0);
    return cost === Number.POSITIVE_INFINITY ? null : { node, cost, gpus: this.#gpusFor(task, node) };
  }

  #costWithCache(task: TaskClass, node: number, tokens: number): number {
    const state = this.#nodes.stateOf[node] ?? NONE;
    const group = this.#nodes.groupOf[node] ?? 0;
    const facts = this.#groups.at(group)?.facts;
    if (state === NONE || facts === undefined || fixedCost(task, this.#groups, group) === Number.POSITIVE_INFINITY)
      return Number.POSITIVE_INFINITY;
    if (!this.#seatIn(task.ask, state)) return Number.POSITIVE_INFINITY;
    const fixed = totalOf(scoreTerms(task.ask, facts, tokens));
    return costOf(fixed, this.#nodes.load[node] ?? 0, this.#seat.strandedMilli, this.#economy);
  }

  #gpusFor(task: TaskClass, node: number): readonly number[] {
    if (task.ask.gpus === 0 || !this.#seatIn(task.ask, this.#nodes.stateOf[node] ?? 0)) return [];
    const { at } = this.#seat;
    this.#nodes.sortFree(node, this.#fleet.gpusOf(node));
    return Array.from(this.#nodes.order.subarray(at, at + task.ask.gpus));
  }

  /** Uses up what a choice takes. */
  take(task: TaskClass, { node, gpus }: Choice): void {
    this.#move(task, node, gpus, -1);
  }

  /** Gives back what a choice took. */
  give(task: TaskClass, { node, gpus }: Choice): void {
    this.#move(task, node, gpus, 1);
  }

  #move({ ask }: TaskClass, node: number, gpus: readonly number[], sign: 1 | -1): void {
    const nodes = this.#nodes;
    for (const gpu of gpus) nodes.move(node, gpu, sign * ask.gpuMilli);
    nodes.cpuMilli[node] = (nodes.cpuMilli[node] ?? 0) + sign * ask.cpuMilli;
    nodes.memoryMib[node] = (nodes.memoryMib[node] ?? 0) + sign * ask.memoryMib;
    this.#fleet.settle(node);
  }

  /** Bytes in typed arrays: they are nearly all of what the index takes beside the nodes' names. */
  get bytes(): number {
    return this.#fleet.bytes + this.#classes.bytes;
  }
}
