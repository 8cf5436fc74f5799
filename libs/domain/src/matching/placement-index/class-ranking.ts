import type { NodeOrder } from './node-order.ts';
import type { StateTable } from './state-table.ts';

const NONE = -1;
/** Beyond this part of all states, making the tournament anew is cheaper than replaying what changed. */
const REPLAY_PART = 8;

/**
 * The ranking of all states for one class of tasks: a tournament tree whose root is the state with the least cost that has a
 * node, among equals the one with the first node. Brought up to date from the table's log when it is asked, so that
 * classes which nobody asks for cost nothing.
 */
export class ClassRanking {
  readonly #states: StateTable;
  readonly #order: NodeOrder;
  readonly #costOf: (state: number) => number;
  #cost: Float64Array;
  /** Edition of the state that the cost was computed for. */
  #edition: Uint32Array;
  /** Winners, root at 1; the leaf of a state stands at `leaves + state`. */
  #winner: Int32Array;
  #leaves = 0;
  #seen = -1;
  /** States looked at since it was made, scored or known. */
  looked = 0;

  /** @param costOf Of a state for this class; infinite when it does not fit. */
  constructor(states: StateTable, order: NodeOrder, costOf: (state: number) => number) {
    this.#states = states;
    this.#order = order;
    this.#costOf = costOf;
    this.#cost = new Float64Array(0);
    this.#edition = new Uint32Array(0);
    this.#winner = new Int32Array(0);
  }

  get bytes(): number {
    return this.#cost.byteLength + this.#edition.byteLength + this.#winner.byteLength;
  }

  /** The best state, or -1. */
  best(): number {
    this.#sync();
    const state = this.#winner[1] ?? NONE;
    return state === NONE || this.#cost[state] === Number.POSITIVE_INFINITY ? NONE : state;
  }

  costAt(state: number): number {
    this.#score(state);
    return this.#cost[state] ?? Number.POSITIVE_INFINITY;
  }

  #sync(): void {
    const { logged, capacity } = this.#states;
    if (this.#leaves !== capacity) this.#resize(capacity);
    const behind = logged - this.#seen;
    if (behind === 0) return;
    if (this.#seen < 0 || behind > capacity / REPLAY_PART || !this.#states.logHolds(this.#seen)) this.#rebuild();
    else for (let at = this.#seen; at < logged; at += 1) this.#replay(this.#states.logAt(at));
    this.#seen = logged;
  }

  #resize(capacity: number): void {
    const cost = new Float64Array(capacity);
    const edition = new Uint32Array(capacity);
    cost.set(this.#cost);
    edition.set(this.#edition);
    this.#cost = cost;
    this.#edition = edition;
    this.#winner = new Int32Array(2 * capacity).fill(NONE);
    this.#leaves = capacity;
    this.#seen = -1;
  }

  #score(state: number): void {
    const edition = this.#states.edition[state] ?? 0;
    if (this.#edition[state] === edition) return;
    this.#cost[state] = this.#costOf(state);
    this.#edition[state] = edition;
  }

  #leafOf(state: number): number {
    this.looked += 1;
    if ((this.#states.head[state] ?? NONE) === NONE) return NONE;
    this.#score(state);
    return this.#cost[state] === Number.POSITIVE_INFINITY ? NONE : state;
  }

  #replay(state: number): void {
    let at = this.#leaves + state;
    this.#winner[at] = this.#leafOf(state);
    for (at >>= 1; at >= 1; at >>= 1) this.#winner[at] = this.#better(2 * at);
  }

  #rebuild(): void {
    const known = this.#states.known;
    for (let state = 0; state < known; state += 1) this.#winner[this.#leaves + state] = this.#leafOf(state);
    for (let at = this.#leaves - 1; at >= 1; at -= 1) this.#winner[at] = this.#better(2 * at);
  }

  #better(left: number): number {
    const a = this.#winner[left] ?? NONE;
    const b = this.#winner[left + 1] ?? NONE;
    if (a === NONE) return b;
    if (b === NONE) return a;
    const costA = this.#cost[a] ?? 0;
    const costB = this.#cost[b] ?? 0;
    if (costA !== costB) return costA < costB ? a : b;
    return this.#order.before(this.#states.head[a] ?? 0, this.#states.head[b] ?? 0) ? a : b;
  }
}
