import { setImmediate } from 'node:timers';

interface Event {
  readonly atMs: number;
  /** Of two events at one moment the one that was planned first happens first. */
  readonly turn: number;
  readonly happen: () => void;
}

/**
 * A clock that moves from event to event. Between two events everything that could run has run, so the same seed gives the same
 * order, whatever machine it runs on.
 */
export class VirtualTime {
  nowMs = 0;
  events = 0;
  readonly #heap: Event[] = [];
  #turn = 0;

  at(atMs: number, happen: () => void): void {
    this.#turn += 1;
    this.#push({ atMs: Math.max(this.nowMs, atMs), turn: this.#turn, happen });
  }

  after(delayMs: number, happen: () => void): void {
    this.at(this.nowMs + delayMs, happen);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  /** Lets events happen until `isOver`, or until the clock says `untilMs`. */
  async run(untilMs: number, isOver: () => boolean): Promise<void> {
    let isOn = true;
    while (isOn)
      isOn = await inBursts(() => {
        const next = isOver() ? undefined : this.#pop(untilMs);
        if (next === undefined) return false;
        this.nowMs = next.atMs;
        this.events += 1;
        next.happen();
        return true;
      });
  }

  #push(event: Event): void {
    const heap = this.#heap;
    heap.push(event);
    for (let at = heap.length - 1; at > 0;) {
      const up = (at - 1) >> 1;
      if (!isBefore(heap[at], heap[up])) return;
      swap(heap, at, up);
      at = up;
    }
  }

  #pop(untilMs: number): Event | undefined {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.at(-1);
    if (first === undefined || last === undefined || first.atMs > untilMs) return undefined;
    heap.pop();
    if (heap.length === 0) return first;
    heap[0] = last;
    for (let at = 0; ;) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      let least = at;
      if (isBefore(heap[left], heap[least])) least = left;
      if (isBefore(heap[right], heap[least])) least = right;
      if (least === at) return first;
      swap(heap, at, least);
      at = least;
    }
  }
}

function isBefore(a: Event | undefined, b: Event | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.turn < b.turn);
}

function swap(heap: Event[], a: number, b: number): void {
  const [first, second] = [heap[a], heap[b]];
  if (first === undefined || second === undefined) return;
  heap[a] = second;
  heap[b] = first;
}

/** So many immediates are asked for at once: a turn of the event loop for each would cost more than most events do. */
const BURST = 64;

/**
 * Takes steps until one says that there is none left, a burst at most; resolves with whether there may be more. Before each step
 * every promise that could go on has gone on: all microtasks run between two immediates.
 */
function inBursts(step: () => boolean): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let isOn = true;
    const turn = (): void => {
      try {
        isOn = isOn && step();
      } catch (error) {
        isOn = false;
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    for (let i = 0; i < BURST; i += 1) setImmediate(turn);
    setImmediate(() => {
      resolve(isOn);
    });
  });
}
