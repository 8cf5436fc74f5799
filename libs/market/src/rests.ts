import { keepNewest } from '@freehold/domain';
import type { MonotonicClock } from './ports/surroundings.ts';

/** As many as a process connects to, and some that went: strangers who come with ever new keys are not remembered for ever. */
export const NODES_MAX = 8_192;

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
    keepNewest(this.#rests, nodeId, { untilMs: this.#clock.nowMs() + restMs, restMs }, NODES_MAX);
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
