import type { ChainHead } from '@freehold/market';

/** Between two looks at a chain from which nothing is awaited: whoever pays for requests to an endpoint pays for these. */
export const LOOK_MS = 1_000;
/** The fastest chains make five blocks a second. */
const HURRIED_LOOK_MS = 200;

/**
 * How soon a chain is worth the next look: twice a block while a step waits for the next one, and every second otherwise. On a
 * chain with a block every twelve seconds that is every second too.
 */
export class ChainPace {
  #seen: { readonly number: bigint; readonly atMs: number } | null = null;
  #blockMs = Number.POSITIVE_INFINITY;

  saw({ number }: ChainHead, nowMs: number): void {
    const before = this.#seen;
    if (before?.number === number) return;
    if (before !== null && number > before.number)
      this.#blockMs = (nowMs - before.atMs) / Number(number - before.number);
    this.#seen = { number, atMs: nowMs };
  }

  /** @param isAwaited Whether the next block may allow a step. */
  nextLookMs(isAwaited: boolean): number {
    return isAwaited ? Math.min(LOOK_MS, Math.max(HURRIED_LOOK_MS, this.#blockMs / 2)) : LOOK_MS;
  }
}
