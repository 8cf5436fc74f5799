import { DomainError } from '../../errors.ts';
import { ANYWHERE, type Ask, type Candidate } from '../ask.ts';
import { CONSTRAINTS, takesWork } from '../constraints.ts';
import { costOf, scoreTerms, seatOn, totalOf, type FleetEconomy, type Seat } from '../score.ts';
import { ClassRanking } from './class-ranking.ts';
import { factsKey, taskClassKey } from './keys.ts';
import { ServingNodes, type Count } from './serving-nodes.ts';
import { StateTable } from './state-table.ts';

const NONE = -1;
/** Task classes kept compiled; the one that was asked for least recently makes room. */
const CLASSES_MAX = 64;
/** Unless this many decisions or fewer have passed since: who takes turns over more kinds of work would compile each of them each time. */
const DECISIONS_KEPT = 16;
/** And then so many at most, at 20 bytes for each state: two for each job of a decision. */
const CLASSES_MOST = 512;
/** Most machines have eight at most, and each place costs two bytes per node. */
const GPUS_USUAL = 8;
/** As many as an offer may name. */
export const GPUS_PER_NODE_MAX = 64;

/** Why a node takes no new work, as bits. */
const FULL = 1;
const AWAY = 2;

const OF_OFFER = CONSTRAINTS.filter(({ reads }) => reads === 'offer');
/** Of the moment, those that {@link takesWork} does not answer. */
const OF_LOAD = CONSTRAINTS.filter(
  ({ name, reads }) => reads === 'moment' && name !== 'benched' && name !== 'draining',
);

/** Tasks that want the same: their jobs and the nodes they lost do not matter. */
export interface TaskClass {
  readonly ask: Ask;
  readonly ranking: ClassRanking;
  /** Per group: the cost of its offer for this class, infinite when a constraint keeps it away, NaN when not yet known. */
  fixed: Float64Array;
  /** Nodes that could serve it. */
  readonly serving: Count;
  usedAt: number;
  usedInDecision: number;
}

/** Where a task goes. */
export interface Choice {
  /** Number of the node in the index. */
  readonly node: number;
  readonly cost: number;
  /** Which of its GPUs, in the order of its offer. */
  readonly gpus: readonly number[];
}

/** A group is what an offer says; the nodes of a group differ in what is free alone. */
interface Group {
  readonly facts: Candidate;
  readonly modelBit: number;
}

/**
 * Nodes by what they offer and what of it is free, in typed arrays, so that the best node for a task is found without looking
 * at nodes. Gives the same answer as a scan of all of them ({@link bestByScan}); a test holds it to that.
 *
 * A node is in one *state*: its group (all that the offer says), free GPU milli, processor and memory, and its leases. Costs
 * are kept per (class of tasks × state); a placement changes the states of one node, and nothing else is computed again.
 */
export class PlacementIndex {
  readonly #economy: FleetEconomy;
  readonly #states: StateTable;
  readonly #groupOf: Int32Array;
  readonly #stateOf: Int32Array;
  readonly #cpuMilli: Float64Array;
  readonly #memoryMib: Float64Array;
  readonly #load: Uint16Array;
  readonly #free: Uint16Array;
  /** 0: takes new work; else why it takes none: it is {@link FULL}, or {@link AWAY} whatever it has free. */
  readonly #closed: Uint8Array;
  /** 1: kept for a reservation. */
  readonly #held: Uint8Array;
  readonly #serving = new ServingNodes();
  readonly #groups: Group[] = [];
  readonly #groupNumbers = new Map<string, number>();
  readonly #numbers = new Map<string, number>();
  readonly #ids: (string | undefined)[] = [];
  readonly #vacant: number[] = [];
  readonly #classes = new Map<string, TaskClass>();
  readonly #sorted: Uint16Array;
  readonly #order: Uint8Array;
  readonly #seat: Seat = { at: 0, strandedMilli: 0 };
  readonly #stride: number;
  readonly #classesMax: number;
  #uses = 0;
  #decisions = 0;
  /** By classes that are forgotten. */
  #lookedBefore = 0;
  /** States scored since the index was made: what a decision really looks at. */
  examined = 0;

  constructor(
    nodesMax: number,
    economy: FleetEconomy,
    { gpusPerNodeMax = GPUS_USUAL, classesMax = CLASSES_MAX }: { gpusPerNodeMax?: number; classesMax?: number } = {},
  ) {
    this.#economy = economy;
    this.#classesMax = classesMax;
    this.#stride = Math.min(gpusPerNodeMax, GPUS_PER_NODE_MAX);
    this.#states = new StateTable(nodesMax, this.#stride);
    this.#groupOf = new Int32Array(nodesMax);
    this.#stateOf = new Int32Array(nodesMax).fill(NONE);
    this.#cpuMilli = new Float64Array(nodesMax);
    this.#memoryMib = new Float64Array(nodesMax);
    this.#load = new Uint16Array(nodesMax);
    this.#free = new Uint16Array(nodesMax * this.#stride);
    this.#closed = new Uint8Array(nodesMax).fill(AWAY);
    this.#held = new Uint8Array(nodesMax);
    this.#sorted = new Uint16Array(this.#stride);
    this.#order = new Uint8Array(this.#stride);
  }

  get nodes(): number {
    return this.#numbers.size;
  }

  get states(): number {
    return this.#states.occupied;
  }

  /** States that rankings have looked at, most of them at a cost that was known: also what is not scored again takes time. */
  get looked(): number {
    return [...this.#classes.values()].reduce((sum, { ranking }) => sum + ranking.looked, this.#lookedBefore);
  }

  /** Different offers known, also those that no node makes any more. */
  get groups(): number {
    return this.#groups.length;
  }

  /** Whether a node with so many GPUs has a place here. */
  holds({ gpus }: Pick<Candidate, 'gpus'>): boolean {
    return gpus.length <= this.#stride;
  }

  idOf(node: number): string {
    const id = this.#ids[node];
    if (id === undefined) throw new DomainError({ code: 'INDEX_NODE_UNKNOWN', node });
    return id;
  }

  numberOf(nodeId: string): number | undefined {
    return this.#numbers.get(nodeId);
  }

  /** Adds a node, or takes in what is new about it. Nodes are numbered in the order in which they come. */
  put(node: Candidate): number {
    if (node.gpus.length > this.#stride)
      throw new DomainError({ code: 'INDEX_TOO_MANY_GPUS', gpus: node.gpus.length, max: this.#stride });
    const number = this.#numbers.get(node.nodeId) ?? this.#register(node.nodeId);
    this.#takeIn(number, this.#groupFor(node), takesWork(node));
    this.#cpuMilli[number] = node.cpuFreeMilli;
    this.#memoryMib[number] = node.memoryFreeMib;
    this.#load[number] = node.leasesActive;
    for (let i = 0; i < node.gpus.length; i += 1) this.#free[number * this.#stride + i] = node.gpus[i]?.freeMilli ?? 0;
    this.#setFull(
      number,
      OF_LOAD.some(({ holds }) => !holds(ANY_ASK, node)),
    );
    this.#settle(number);
    return number;
  }

  /** The group that a node is in from now on, and whether it takes work. */
  #takeIn(number: number, group: number, takes: boolean): void {
    const [before, wasAway] = [this.#groupOf[number] ?? 0, ((this.#closed[number] ?? 0) & AWAY) !== 0];
    this.#groupOf[number] = group;
    if (wasAway === !takes && (wasAway || before === group)) return;
    if (!wasAway) this.#serving.change(before, -1);
    if (takes) this.#serving.change(group, 1);
    this.#closed[number] = ((this.#closed[number] ?? 0) & ~AWAY) | (takes ? 0 : AWAY);
  }

  #setFull(number: number, isFull: boolean): void {
    this.#closed[number] = ((this.#closed[number] ?? 0) & ~FULL) | (isFull ? FULL : 0);
  }

  /** Takes in how many leases a node holds, and whether it takes more. */
  setLoad(node: number, leasesActive: number, takesMore: boolean): void {
    this.#load[node] = leasesActive;
    this.#setFull(node, !takesMore);
    this.#settle(node);
  }

  /** Keeps a node from all new work until {@link release}: it is reserved. */
  hold(node: number): void {
    this.#held[node] = 1;
    this.#settle(node);
  }

  release(node: number): void {
    this.#held[node] = 0;
    this.#settle(node);
  }

  /** Moves a node to the state that it is in now, or out of all when it takes no work. */
  #settle(node: number): void {
    if (this.#ids[node] === undefined || this.#closed[node] !== 0 || this.#held[node] === 1) this.#leaveState(node);
    else this.#enterState(node);
  }

  drop(nodeId: string): void {
    const number = this.#numbers.get(nodeId);
    if (number === undefined) return;
    this.#numbers.delete(nodeId);
    this.#ids[number] = undefined;
    this.#held[number] = 0;
    this.#takeIn(number, this.#groupOf[number] ?? 0, false);
    this.#settle(number);
    this.#vacant.push(number);
  }

  #register(nodeId: string): number {
    const number = this.#vacant.pop() ?? this.#ids.length;
    if (number >= this.#stateOf.length) throw new DomainError({ code: 'INDEX_FULL', nodes: this.#stateOf.length });
    this.#ids[number] = nodeId;
    this.#numbers.set(nodeId, number);
    return number;
  }

  #groupFor(node: Candidate): number {
    const key = factsKey(node);
    const known = this.#groupNumbers.get(key);
    if (known !== undefined) return known;
    const number = this.#groups.length;
    this.#groups.push({ facts: node, modelBit: this.#economy.gauge.models.bit(node.gpus[0]?.model ?? '') });
    this.#groupNumbers.set(key, number);
    return number;
  }

  #gpusOf(node: number): number {
    return this.#groups[this.#groupOf[node] ?? 0]?.facts.gpus.length ?? 0;
  }

  /** Sorts a node's free milli into the scratch arrays, and which GPU stands where. At most 64: an insertion sort. */
  #sortFree(node: number): number {
    const gpus = this.#gpusOf(node);
    const from = node * this.#stride;
    for (let i = 0; i < gpus; i += 1) {
      const free = this.#free[from + i] ?? 0;
      let at = i;
      for (; at > 0 && (this.#sorted[at - 1] ?? 0) > free; at -= 1) {
        this.#sorted[at] = this.#sorted[at - 1] ?? 0;
        this.#order[at] = this.#order[at - 1] ?? 0;
      }
      this.#sorted[at] = free;
      this.#order[at] = i;
    }
    return gpus;
  }

  #enterState(node: number): void {
    const gpus = this.#sortFree(node);
    const state = this.#states.intern(
      this.#groupOf[node] ?? 0,
      this.#cpuMilli[node] ?? 0,
      this.#memoryMib[node] ?? 0,
      this.#load[node] ?? 0,
      this.#sorted,
      gpus,
    );
    const before = this.#stateOf[node] ?? NONE;
    if (state === before) return;
    if (before !== NONE) this.#states.leave(before, node);
    this.#states.enter(state, node);
    this.#stateOf[node] = state;
  }

  #leaveState(node: number): void {
    const before = this.#stateOf[node] ?? NONE;
    if (before === NONE) return;
    this.#states.leave(before, node);
    this.#stateOf[node] = NONE;
  }

  /** The class of an ask: compiled once, then found by what it wants. */
  classOf(ask: Ask): TaskClass {
    const key = taskClassKey(ask);
    const known = this.#classes.get(key);
    this.#uses += 1;
    if (known !== undefined) {
      known.usedAt = this.#uses;
      known.usedInDecision = this.#decisions;
      return known;
    }
    this.#forgetClasses();
    const made: TaskClass = {
      ask: { ...ask, avoidNode: null, cachedOn: new Map() },
      ranking: new ClassRanking(this.#states, (state) => this.#stateCost(made, state)),
      fixed: new Float64Array(64).fill(Number.NaN),
      serving: { nodes: 0, at: -1 },
      usedAt: this.#uses,
      usedInDecision: this.#decisions,
    };
    this.#classes.set(key, made);
    return made;
  }

  /** Another decision begins: what was asked for in the last few is worth its room. */
  beginDecision(): void {
    this.#decisions += 1;
  }

  get classes(): number {
    return this.#classes.size;
  }

  /** Makes room for one more class. */
  #forgetClasses(): void {
    while (this.#classes.size >= this.#classesMax) {
      let oldest: string | undefined;
      let least: TaskClass | undefined;
      for (const [key, one] of this.#classes)
        if (least === undefined || one.usedAt < least.usedAt) [oldest, least] = [key, one];
      if (oldest === undefined || least === undefined) return;
      const isRecent = least.usedInDecision > this.#decisions - DECISIONS_KEPT;
      if (isRecent && this.#classes.size < CLASSES_MOST) return;
      this.#lookedBefore += least.ranking.looked;
      this.#classes.delete(oldest);
    }
  }

  #fixedCost(task: TaskClass, group: number): number {
    if (group >= task.fixed.length) {
      const more = new Float64Array(Math.max(group + 1, task.fixed.length * 2)).fill(Number.NaN);
      more.set(task.fixed);
      task.fixed = more;
    }
    const known = task.fixed[group] ?? Number.NaN;
    if (!Number.isNaN(known)) return known;
    const facts = this.#groups[group]?.facts;
    const fits = facts !== undefined && OF_OFFER.every(({ holds }) => holds(task.ask, facts));
    const cost = fits ? totalOf(scoreTerms(task.ask, facts, 0)) : Number.POSITIVE_INFINITY;
    task.fixed[group] = cost;
    return cost;
  }

  /** Nodes that could serve a task of this class, whether or not they have room for it now. */
  serving(task: TaskClass): number {
    return this.#serving.read(task.serving, (group) => this.#fixedCost(task, group) !== Number.POSITIVE_INFINITY);
  }

  #stateCost(task: TaskClass, state: number): number {
    this.examined += 1;
    const fixed = this.#fixedCost(task, this.#states.group[state] ?? 0);
    return fixed === Number.POSITIVE_INFINITY || !this.#seatIn(task.ask, state)
      ? Number.POSITIVE_INFINITY
      : costOf(fixed, this.#states.load[state] ?? 0, this.#seat.strandedMilli, this.#economy);
  }

  #seatIn(ask: Ask, state: number): boolean {
    const states = this.#states;
    const node = {
      modelBit: this.#groups[states.group[state] ?? 0]?.modelBit ?? 0,
      cpuMilli: states.cpuMilli[state] ?? 0,
      memoryMib: states.memoryMib[state] ?? 0,
      gpus: states.gpus[state] ?? 0,
    };
    return seatOn(this.#economy, ask, node, states.free, state * states.stride, this.#seat);
  }

  /**
   * The best node for a task of this class, or null. Ties go to the node with the smallest number.
   *
   * @param avoid A node to leave out, as the one that just lost the task.
   * @param cachedOn Prompt tokens that a few nodes hold; each of them is judged with what that saves.
   */
  best(task: TaskClass, avoid: string | null = null, cachedOn?: ReadonlyMap<string, number>): Choice | null {
    const avoided = avoid === null ? undefined : this.#numbers.get(avoid);
    const state = avoided === undefined ? NONE : (this.#stateOf[avoided] ?? NONE);
    if (avoided !== undefined && state !== NONE) this.#states.leave(state, avoided);
    const best = task.ranking.best();
    let node = best === NONE ? NONE : (this.#states.head[best] ?? NONE);
    let cost = node === NONE ? Number.POSITIVE_INFINITY : task.ranking.costAt(best);
    for (const [nodeId, tokens] of cachedOn ?? []) {
      const near = this.#numbers.get(nodeId);
      if (near === undefined || near === avoided) continue;
      const nearCost = this.#costWithCache(task, near, tokens);
      if (nearCost < cost || (nearCost === cost && near < node)) [node, cost] = [near, nearCost];
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
    const state = this.#stateOf[node] ?? NONE;
    const group = this.#groupOf[node] ?? 0;
    const facts = this.#groups[group]?.facts;
    if (state === NONE || facts === undefined || this.#fixedCost(task, group) === Number.POSITIVE_INFINITY)
      return Number.POSITIVE_INFINITY;
    if (!this.#seatIn(task.ask, state)) return Number.POSITIVE_INFINITY;
    const fixed = totalOf(scoreTerms(task.ask, facts, tokens));
    return costOf(fixed, this.#load[node] ?? 0, this.#seat.strandedMilli, this.#economy);
  }

  #gpusFor(task: TaskClass, node: number): readonly number[] {
    if (task.ask.gpus === 0 || !this.#seatIn(task.ask, this.#stateOf[node] ?? 0)) return [];
    const { at } = this.#seat;
    this.#sortFree(node);
    return Array.from(this.#order.subarray(at, at + task.ask.gpus));
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
    for (const gpu of gpus) {
      const at = node * this.#stride + gpu;
      const free = (this.#free[at] ?? 0) + sign * ask.gpuMilli;
      if (free < 0 || free > 1_000) throw new DomainError({ code: 'INDEX_OVERDRAWN', node, gpu, free });
      this.#free[at] = free;
    }
    this.#cpuMilli[node] = (this.#cpuMilli[node] ?? 0) + sign * ask.cpuMilli;
    this.#memoryMib[node] = (this.#memoryMib[node] ?? 0) + sign * ask.memoryMib;
    this.#settle(node);
  }

  /** Bytes in typed arrays: they are nearly all of what the index takes beside the nodes' names. */
  get bytes(): number {
    const own = [
      this.#groupOf,
      this.#stateOf,
      this.#cpuMilli,
      this.#memoryMib,
      this.#load,
      this.#free,
      this.#closed,
      this.#held,
    ];
    let bytes = own.reduce((sum, array) => sum + array.byteLength, this.#states.bytes + this.#serving.bytes);
    for (const task of this.#classes.values()) bytes += task.ranking.bytes + task.fixed.byteLength;
    return bytes;
  }
}

/** Constraints of the moment look at the node alone. */
const ANY_ASK: Ask = { ...ANYWHERE, jobId: '', model: null, verify: 'off', rateCaps: {}, deadlineInMs: 0 };
