import type { ChainHead } from '@freehold/market';
import { backOffMs } from './back-off.ts';

/** Between two looks at a chain from which nothing is awaited: whoever pays for requests to an endpoint pays for these. */
export const LOOK_MS = 1_000;
/** The fastest chains make five blocks a second. */
const HURRIED_LOOK_MS = 200;

/**
 * How soon a chain is worth the next look: twice a block while a step waits for the next one, and every second otherwise. On a
 * chain with a block every twelve seconds that is every second too; one that stands still is not hurried for long, and an endpoint that
 * fails is asked ever more seldom, until it answers.
 */
export class ChainPace {
  #seen: { readonly number: bigint; readonly atMs: number } | null = null;
  #blockMs = Number.POSITIVE_INFINITY;
  #failures = 0;

  saw({ number }: ChainHead, nowMs: number): void {
    this.#failures = 0;
    const before = this.#seen;
    if (before?.number === number) return;
    if (before !== null && number > before.number)
      this.#blockMs = (nowMs - before.atMs) / Number(number - before.number);
    this.#seen = { number, atMs: nowMs };
  }

  /** A look was not answered. */
  failed(): void {
    this.#failures += 1;
  }

  /** @param isAwaited Whether the next block may allow a step. */
  nextLookMs(isAwaited: boolean, nowMs: number): number {
    if (this.#failures > 0) return backOffMs(this.#failures);
    if (!isAwaited) return LOOK_MS;
    const stoodMs = this.#seen === null ? Number.POSITIVE_INFINITY : nowMs - this.#seen.atMs;
    return Math.min(LOOK_MS, Math.max(HURRIED_LOOK_MS, this.#blockMs / 2, stoodMs / 2));
  }
}
