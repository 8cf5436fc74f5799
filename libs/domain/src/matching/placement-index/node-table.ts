import { DomainError } from '../../errors.ts';
import type { Candidate } from '../ask.ts';

const NONE = -1;

/** Why a node takes no new work, as bits. */
export const FULL = 1;
export const AWAY = 2;

/** What is known of each node, by its number, in typed arrays. A number that is free is the next newcomer's. */
export class NodeTable {
  /** GPUs that a node has at most. */
  readonly stride: number;
  groupOf: Int32Array;
  /** -1: in none. */
  stateOf: Int32Array;
  cpuMilli: Float64Array;
  memoryMib: Float64Array;
  load: Uint16Array;
  /** 0: takes new work; else why it takes none: it is {@link FULL}, or {@link AWAY} whatever it has free. */
  closed: Uint8Array;
  /** 1: kept for a reservation. */
  held: Uint8Array;
  /** Milli of its GPUs that are free, in the order of its offer, at `node * stride`. */
  free: Uint16Array;
  /** Of the node that was sorted last: free milli ascending, and which of its GPUs each is. */
  readonly sorted: Uint16Array;
  readonly order: Uint8Array;
  readonly #numbers = new Map<string, number>();
  readonly #ids: (string | undefined)[] = [];
  readonly #vacant: number[] = [];

  constructor(nodesMax: number, stride: number) {
    this.stride = stride;
    this.groupOf = new Int32Array(nodesMax);
    this.stateOf = new Int32Array(nodesMax).fill(NONE);
    this.cpuMilli = new Float64Array(nodesMax);
    this.memoryMib = new Float64Array(nodesMax);
    this.load = new Uint16Array(nodesMax);
    this.closed = new Uint8Array(nodesMax).fill(AWAY);
    this.held = new Uint8Array(nodesMax);
    this.free = new Uint16Array(nodesMax * stride);
    this.sorted = new Uint16Array(stride);
    this.order = new Uint8Array(stride);
  }

  get size(): number {
    return this.#numbers.size;
  }

  /** Numbers that there is room for. */
  get capacity(): number {
    return this.stateOf.length;
  }

  get bytes(): number {
    const { groupOf, stateOf, cpuMilli, memoryMib, load, closed, held, free } = this;
    const arrays = [groupOf, stateOf, cpuMilli, memoryMib, load, closed, held, free];
    return arrays.reduce((sum, array) => sum + array.byteLength, 0);
  }

  numberOf(nodeId: string): number | undefined {
    return this.#numbers.get(nodeId);
  }

  idOf(node: number): string {
    const id = this.#ids[node];
    if (id === undefined) throw new DomainError({ code: 'INDEX_NODE_UNKNOWN', node });
    return id;
  }

  isKnown(node: number): boolean {
    return this.#ids[node] !== undefined;
  }

  /** The number of a newcomer. */
  register(nodeId: string): number {
    const number = this.#vacant.pop() ?? this.#ids.length;
    if (number >= this.capacity) this.#grow();
    this.#ids[number] = nodeId;
    this.#numbers.set(nodeId, number);
    return number;
  }

  /** Its number is free from now on: it is in no state, and takes no work. */
  forget(nodeId: string, number: number): void {
    this.#numbers.delete(nodeId);
    this.#ids[number] = undefined;
    this.held[number] = 0;
    this.#vacant.push(number);
  }

  /** Takes in what of a node is free. */
  put(number: number, node: Candidate): void {
    this.cpuMilli[number] = node.cpuFreeMilli;
    this.memoryMib[number] = node.memoryFreeMib;
    this.load[number] = node.leasesActive;
    for (let i = 0; i < node.gpus.length; i += 1) this.free[number * this.stride + i] = node.gpus[i]?.freeMilli ?? 0;
  }

  setFull(number: number, isFull: boolean): void {
    this.closed[number] = ((this.closed[number] ?? 0) & ~FULL) | (isFull ? FULL : 0);
  }

  setAway(number: number, isAway: boolean): void {
    this.closed[number] = ((this.closed[number] ?? 0) & ~AWAY) | (isAway ? AWAY : 0);
  }

  isAway(number: number): boolean {
    return ((this.closed[number] ?? 0) & AWAY) !== 0;
  }

  takesWork(number: number): boolean {
    return this.isKnown(number) && this.closed[number] === 0 && this.held[number] !== 1;
  }

  /** Sorts a node's free milli into the scratch arrays, and which GPU stands where. At most 64: an insertion sort. */
  sortFree(number: number, gpus: number): void {
    const from = number * this.stride;
    for (let i = 0; i < gpus; i += 1) {
      const free = this.free[from + i] ?? 0;
      let at = i;
      for (; at > 0 && (this.sorted[at - 1] ?? 0) > free; at -= 1) {
        this.sorted[at] = this.sorted[at - 1] ?? 0;
        this.order[at] = this.order[at - 1] ?? 0;
      }
      this.sorted[at] = free;
      this.order[at] = i;
    }
  }

  /** Uses up free milli of a GPU, or gives them back. */
  move(number: number, gpu: number, milli: number): void {
    const at = number * this.stride + gpu;
    const free = (this.free[at] ?? 0) + milli;
    if (free < 0 || free > 1_000) throw new DomainError({ code: 'INDEX_OVERDRAWN', node: number, gpu, free });
    this.free[at] = free;
  }

  #grow(): void {
    const capacity = Math.max(1, 2 * this.capacity);
    const known = this.capacity;
    this.groupOf = grown(this.groupOf, new Int32Array(capacity));
    this.stateOf = grown(this.stateOf, new Int32Array(capacity).fill(NONE, known));
    this.cpuMilli = grown(this.cpuMilli, new Float64Array(capacity));
    this.memoryMib = grown(this.memoryMib, new Float64Array(capacity));
    this.load = grown(this.load, new Uint16Array(capacity));
    this.closed = grown(this.closed, new Uint8Array(capacity).fill(AWAY, known));
    this.held = grown(this.held, new Uint8Array(capacity));
    this.free = grown(this.free, new Uint16Array(capacity * this.stride));
  }
}

/** A longer array that begins with what the shorter one held. */
export function grown<T extends Int32Array | Uint32Array | Uint16Array | Uint8Array | Float64Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
