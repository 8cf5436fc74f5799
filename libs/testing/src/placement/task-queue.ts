import { PRIORITY_MAX, PRIORITY_STEP_MS } from '@freehold/domain';

const CAPACITY_AT_FIRST = 1_024;

/** A task in the queue: a row of a job. */
interface QueuedTask {
  readonly job: number;
  readonly row: number;
  /** Which class of tasks it is of, see `PlacementIndex.classOf`. */
  readonly taskClass: number;
}

/**
 * The queue of a simulated market whose tasks are single rows; the scheduler keeps ranges of rows by job (`KeptDemand`).
 *
 * Queued tasks in typed arrays, most urgent first within each class. Slack falls for all tasks alike as time passes
 * (`queue-order.ts`), so a task's key never changes, and nothing is sorted again.
 *
 * One heap per class: when a class finds no room, all its tasks wait and the others go on.
 */
export class TaskQueue {
  #key = new Float64Array(CAPACITY_AT_FIRST);
  #job = new Int32Array(CAPACITY_AT_FIRST);
  #row = new Int32Array(CAPACITY_AT_FIRST);
  #next = new Int32Array(CAPACITY_AT_FIRST);
  #used = 0;
  /** First of the places that were given back, -1 when none were. */
  #vacant = -1;
  #size = 0;
  readonly #heaps = new Map<number, Heap>();

  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    const own = this.#key.byteLength + this.#job.byteLength + this.#row.byteLength + this.#next.byteLength;
    return [...this.#heaps.values()].reduce((sum, heap) => sum + heap.items.byteLength, own);
  }

  /** @param createdAtMs, deadlineAtMs On one clock, whichever it is. */
  add(task: QueuedTask, createdAtMs: number, deadlineAtMs: number, priority = 0): void {
    const level = Math.min(PRIORITY_MAX, Math.max(0, priority));
    const key = createdAtMs + deadlineAtMs - level * PRIORITY_STEP_MS;
    if (!Number.isFinite(key)) throw new RangeError(`expected finite times, got ${createdAtMs} and ${deadlineAtMs}`);
    const at = this.#place();
    this.#key[at] = key;
    this.#job[at] = task.job;
    this.#row[at] = task.row;
    this.#size += 1;
    const heap = this.#heaps.get(task.taskClass);
    if (heap !== undefined) this.#push(heap, at);
    else {
      const made = { items: new Int32Array(16), size: 0 };
      this.#heaps.set(task.taskClass, made);
      this.#push(made, at);
    }
  }

  /** The class whose first task is the most urgent of all, leaving out those in `blocked`; null when none waits. */
  mostUrgentClass(blocked: ReadonlySet<number>): number | null {
    let best: number | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const [taskClass, { items, size }] of this.#heaps) {
      const key = size === 0 || blocked.has(taskClass) ? Number.POSITIVE_INFINITY : (this.#key[items[0] ?? 0] ?? 0);
      if (key < least) [best, least] = [taskClass, key];
    }
    return best;
  }

  /** Takes the most urgent task of a class out. */
  take(taskClass: number): QueuedTask | null {
    const heap = this.#heaps.get(taskClass);
    if (heap === undefined || heap.size === 0) return null;
    const at = this.#pop(heap);
    const task = { job: this.#job[at] ?? 0, row: this.#row[at] ?? 0, taskClass };
    this.#next[at] = this.#vacant;
    this.#vacant = at;
    this.#size -= 1;
    return task;
  }

  #place(): number {
    if (this.#vacant >= 0) {
      const at = this.#vacant;
      this.#vacant = this.#next[at] ?? -1;
      return at;
    }
    if (this.#used === this.#key.length) {
      const capacity = this.#used * 2;
      this.#key = grown(this.#key, new Float64Array(capacity));
      this.#job = grown(this.#job, new Int32Array(capacity));
      this.#row = grown(this.#row, new Int32Array(capacity));
      this.#next = grown(this.#next, new Int32Array(capacity));
    }
    this.#used += 1;
    return this.#used - 1;
  }

  /** Earlier key first; among equals the smaller job, then the smaller row: the order does not depend on arrival. */
  #isBefore(a: number, b: number): boolean {
    const keys = (this.#key[a] ?? 0) - (this.#key[b] ?? 0);
    const jobs = (this.#job[a] ?? 0) - (this.#job[b] ?? 0);
    return keys !== 0 ? keys < 0 : jobs !== 0 ? jobs < 0 : (this.#row[a] ?? 0) < (this.#row[b] ?? 0);
  }

  #push(heap: Heap, item: number): void {
    if (heap.size === heap.items.length) heap.items = grown(heap.items, new Int32Array(heap.size * 2));
    let at = heap.size;
    heap.size += 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap.items[parent] ?? 0;
      if (!this.#isBefore(item, above)) break;
      heap.items[at] = above;
      at = parent;
    }
    heap.items[at] = item;
  }

  #pop(heap: Heap): number {
    const { items } = heap;
    const first = items[0] ?? 0;
    heap.size -= 1;
    const last = items[heap.size] ?? 0;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.size) break;
      if (child + 1 < heap.size && this.#isBefore(items[child + 1] ?? 0, items[child] ?? 0)) child += 1;
      if (!this.#isBefore(items[child] ?? 0, last)) break;
      items[at] = items[child] ?? 0;
      at = child;
    }
    items[at] = last;
    return first;
  }
}

interface Heap {
  items: Int32Array;
  size: number;
}

function grown<T extends Int32Array | Float64Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
