import { NodeHeaps } from './node-heaps.ts';
import type { NodeOrder } from './node-order.ts';
import { grown } from './node-table.ts';

const NONE = -1;
const STATES_AT_FIRST = 64;

/**
 * The distinct states that nodes are in: what their offer says (a group's number), what of them is free, and how loaded they
 * are. Nodes in the same state score the same for every task, so scores are kept per state, and a decision looks at states.
 * A fleet of 100,000 machines has a few thousand states.
 *
 * A state that no node is in stays known, with its scores, until its place is needed.
 */
export class StateTable {
  readonly stride: number;
  readonly #heaps: NodeHeaps;
  #capacity = STATES_AT_FIRST;
  #known = 0;
  group: Int32Array;
  cpuMilli: Float64Array;
  memoryMib: Float64Array;
  load: Int32Array;
  gpus: Uint8Array;
  /** Free milli of the state's GPUs, ascending, at `state * stride`. */
  free: Uint16Array;
  /** First node in the state, -1 when there is none. */
  head: Int32Array;
  /** Grows whenever the place holds another state, so that who kept a score knows that it is stale. */
  edition: Uint32Array;
  #hash: Int32Array;
  #chain: Int32Array;
  #buckets: Int32Array;
  /** States whose head changed, in order; readers keep their own position. */
  #log: Int32Array;
  #logged = 0;
  #sweep = 0;
  #occupied = 0;

  constructor(nodesMax: number, gpusPerNodeMax: number, order: NodeOrder) {
    this.stride = gpusPerNodeMax;
    this.#heaps = new NodeHeaps(nodesMax, order);
    this.group = new Int32Array(this.#capacity);
    this.cpuMilli = new Float64Array(this.#capacity);
    this.memoryMib = new Float64Array(this.#capacity);
    this.load = new Int32Array(this.#capacity);
    this.gpus = new Uint8Array(this.#capacity);
    this.free = new Uint16Array(this.#capacity * this.stride);
    this.head = new Int32Array(this.#capacity).fill(NONE);
    this.edition = new Uint32Array(this.#capacity);
    this.#hash = new Int32Array(this.#capacity);
    this.#chain = new Int32Array(this.#capacity).fill(NONE);
    this.#buckets = new Int32Array(this.#capacity).fill(NONE);
    this.#log = new Int32Array(this.#capacity);
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** States ever given a place: readers look no further. */
  get known(): number {
    return this.#known;
  }

  get occupied(): number {
    return this.#occupied;
  }

  get logged(): number {
    return this.#logged;
  }

  get bytes(): number {
    const own = [this.group, this.cpuMilli, this.memoryMib, this.load, this.gpus, this.free, this.head, this.edition];
    const arrays = [...own, this.#hash, this.#chain, this.#buckets, this.#log];
    return arrays.reduce((sum, array) => sum + array.byteLength, this.#heaps.bytes);
  }

  /** Nodes up to this number have room from now on. */
  makeRoom(nodesMax: number): void {
    this.#heaps.makeRoom(nodesMax);
  }

  /** The `at`-th entry of the log; false when the log has moved on and the reader must look at every state. */
  logHolds(at: number): boolean {
    return this.#logged - at <= this.#log.length;
  }

  logAt(at: number): number {
    return this.#log[at & (this.#log.length - 1)] ?? 0;
  }

  enter(state: number, node: number): void {
    const head = this.head[state] ?? NONE;
    const now = this.#heaps.join(head, node);
    if (head === NONE) this.#occupied += 1;
    if (now !== head) this.#changeHead(state, now);
  }

  leave(state: number, node: number): void {
    const head = this.head[state] ?? NONE;
    const now = this.#heaps.leave(head, node);
    if (now === NONE) this.#occupied -= 1;
    if (now !== head) this.#changeHead(state, now);
  }

  #changeHead(state: number, head: number): void {
    this.head[state] = head;
    this.#log[this.#logged & (this.#log.length - 1)] = state;
    this.#logged += 1;
  }

  /** The state with these contents: known, or given a place. `free` holds `gpus` sorted values. */
  intern(group: number, cpuMilli: number, memoryMib: number, load: number, free: Uint16Array, gpus: number): number {
    const hash = hashOf(group, cpuMilli, memoryMib, load, free, gpus);
    for (let state = this.#bucket(hash); state !== NONE; state = this.#chain[state] ?? NONE) {
      if (
        this.#hash[state] === hash &&
        this.group[state] === group &&
        this.cpuMilli[state] === cpuMilli &&
        this.memoryMib[state] === memoryMib &&
        this.load[state] === load &&
        this.#sameFree(state, free, gpus)
      )
        return state;
    }
    const state = this.#place();
    this.group[state] = group;
    this.cpuMilli[state] = cpuMilli;
    this.memoryMib[state] = memoryMib;
    this.load[state] = load;
    this.gpus[state] = gpus;
    for (let i = 0; i < gpus; i += 1) this.free[state * this.stride + i] = free[i] ?? 0;
    this.edition[state] = (this.edition[state] ?? 0) + 1;
    this.#hash[state] = hash;
    this.#chain[state] = this.#bucket(hash);
    this.#buckets[hash & (this.#buckets.length - 1)] = state;
    return state;
  }

  #bucket(hash: number): number {
    return this.#buckets[hash & (this.#buckets.length - 1)] ?? NONE;
  }

  #sameFree(state: number, free: Uint16Array, gpus: number): boolean {
    if (this.gpus[state] !== gpus) return false;
    for (let i = 0; i < gpus; i += 1) if (this.free[state * this.stride + i] !== free[i]) return false;
    return true;
  }

  /** A place for a new state: a fresh one, else one that no node is in, else more room. */
  #place(): number {
    if (this.#known < this.#capacity) return this.#known++;
    if (this.#occupied * 2 <= this.#capacity) {
      do this.#sweep = (this.#sweep + 1) & (this.#capacity - 1);
      while (this.head[this.#sweep] !== NONE);
      this.#forget(this.#sweep);
      return this.#sweep;
    }
    this.#grow();
    return this.#known++;
  }

  #forget(state: number): void {
    const at = (this.#hash[state] ?? 0) & (this.#buckets.length - 1);
    const next = this.#chain[state] ?? NONE;
    if (this.#buckets[at] === state) this.#buckets[at] = next;
    else {
      let before = this.#buckets[at] ?? NONE;
      while (this.#chain[before] !== state) before = this.#chain[before] ?? NONE;
      this.#chain[before] = next;
    }
  }

  #grow(): void {
    const capacity = this.#capacity * 2;
    this.group = grown(this.group, new Int32Array(capacity));
    this.cpuMilli = grown(this.cpuMilli, new Float64Array(capacity));
    this.memoryMib = grown(this.memoryMib, new Float64Array(capacity));
    this.load = grown(this.load, new Int32Array(capacity));
    this.gpus = grown(this.gpus, new Uint8Array(capacity));
    this.free = grown(this.free, new Uint16Array(capacity * this.stride));
    this.head = grown(this.head, new Int32Array(capacity).fill(NONE));
    this.edition = grown(this.edition, new Uint32Array(capacity));
    this.#hash = grown(this.#hash, new Int32Array(capacity));
    this.#chain = new Int32Array(capacity).fill(NONE);
    this.#buckets = new Int32Array(capacity).fill(NONE);
    for (let state = 0; state < this.#known; state += 1) {
      const at = (this.#hash[state] ?? 0) & (capacity - 1);
      this.#chain[state] = this.#buckets[at] ?? NONE;
      this.#buckets[at] = state;
    }
    // Positions in the log no longer mean what they did: every reader is made to look at every state.
    this.#logged += 2 * capacity;
    this.#log = new Int32Array(capacity);
    this.#capacity = capacity;
  }
}

function hashOf(
  group: number,
  cpuMilli: number,
  memoryMib: number,
  load: number,
  free: Uint16Array,
  gpus: number,
): number {
  let hash = Math.imul(group + 1, 0x9e3779b1) ^ Math.imul(load + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15) ^ (cpuMilli | 0), 0x2c1b3c6d);
  hash = Math.imul(hash ^ (hash >>> 12) ^ (memoryMib | 0), 0x297a2d39);
  for (let i = 0; i < gpus; i += 1) hash = Math.imul(hash ^ (hash >>> 15) ^ (free[i] ?? 0), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) | 0;
}
