import type { ChainHead } from '@freehold/market';
import { backOffMs } from './back-off.ts';

/** For what no block announces: an operator's word, a disk that has room again, a payout that became worth its gas. */
const LOOK_EVERY_MS = 10_000;

/**
 * When the road of an epoch is worth a look. Nothing on it moves without a new block, so a step that was taken is followed at
 * the next block and a deadline is met at the first block behind it, and an idle book costs a look every ten seconds. A look that
 * fails is repeated at the next block, and when it fails again ever later: what is broken is not mended by being asked.
 */
export class SettleTurns {
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #seen: bigint | null = null;
  #deadline: bigint | null = null;
  #isMoving = true;
  /** A look that began and did not end well. */
  #isOpen = false;
  /** Of those in a row. */
  #failures = 0;

  isDue(head: ChainHead, nowMs: number): boolean {
    const sinceMs = nowMs - this.#lookedAtMs;
    if (sinceMs < backOffMs(this.#failuresNow - 1)) return false;
    if (sinceMs >= LOOK_EVERY_MS) return true;
    if (head.number === this.#seen) return false;
    return this.#isMoving || (this.#deadline !== null && head.timestamp >= this.#deadline);
  }

  /** Whether the next block may allow a step. What fails is not hurried. */
  get awaitsBlock(): boolean {
    return this.#isMoving && this.#failuresNow === 0;
  }

  /** A look begins. */
  take(head: ChainHead, nowMs: number): void {
    this.#failures = this.#failuresNow;
    this.#isOpen = true;
    this.#lookedAtMs = nowMs;
    this.#seen = head.number;
    this.#isMoving = true;
  }

  /**
   * A look ended well.
   *
   * @param moved Whether it did or confirmed anything: then the next block may allow the next step.
   * @param deadline Of the chain's time. One that has passed already is no news at the next block.
   */
  took({ moved, deadline }: { readonly moved: boolean; readonly deadline: bigint | null }, head: ChainHead): void {
    this.#isOpen = false;
    this.#failures = 0;
    this.#isMoving = moved;
    this.#deadline = deadline !== null && head.timestamp < deadline ? deadline : null;
  }

  /** Events were read that a step may have waited for. */
  expectMore(): void {
    this.#isMoving = true;
  }

  get #failuresNow(): number {
    return this.#failures + (this.#isOpen ? 1 : 0);
  }
}
