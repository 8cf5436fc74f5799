import type { MonotonicClock } from './ports/surroundings.ts';

/** Nodes that are left alone for a time, each time for twice as long, up to a maximum. */
export class Rests {
  readonly #clock: MonotonicClock;
  readonly #firstMs: number;
  readonly #mostMs: number;
  readonly #rests = new Map<string, { readonly untilMs: number; readonly restMs: number }>();

  constructor(clock: MonotonicClock, firstMs: number, mostMs: number) {
    this.#clock = clock;
    this.#firstMs = firstMs;
    this.#mostMs = mostMs;
  }

  rest(nodeId: string): void {
    const before = this.#rests.get(nodeId)?.restMs ?? this.#firstMs / 2;
    const restMs = Math.min(this.#mostMs, before * 2);
    this.#rests.set(nodeId, { untilMs: this.#clock.nowMs() + restMs, restMs });
  }

  isResting(nodeId: string): boolean {
    return (this.#rests.get(nodeId)?.untilMs ?? 0) > this.#clock.nowMs();
  }

  /** It did well: its next rest is as short as its first. */
  forget(nodeId: string): void {
    this.#rests.delete(nodeId);
  }

  /** Until when each rests; also what is over. */
  ends(): ReadonlyMap<string, number> {
    return new Map([...this.#rests].map(([nodeId, { untilMs }]) => [nodeId, untilMs]));
  }
}
