import type { ChainHead } from '@freehold/market';

/** For what no block announces: an operator's word, a disk that has room again, a payout that became worth its gas. */
const LOOK_EVERY_MS = 10_000;

/**
 * When the road of an epoch is worth a look. Nothing on it moves without a new block, so a step that was taken is followed at
 * the next block and a deadline is met at the first block behind it, and an idle book costs a look every ten seconds.
 */
export class SettleTurns {
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #seen: bigint | null = null;
  #deadline: bigint | null = null;
  #isMoving = true;

  isDue(head: ChainHead, nowMs: number): boolean {
    if (nowMs - this.#lookedAtMs >= LOOK_EVERY_MS) return true;
    if (head.number === this.#seen) return false;
    return this.#isMoving || (this.#deadline !== null && head.timestamp >= this.#deadline);
  }

  /** Whether the next block may allow a step. */
  get awaitsBlock(): boolean {
    return this.#isMoving;
  }

  /** A look begins; one that fails is repeated at the next block. */
  take(head: ChainHead, nowMs: number): void {
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
    this.#isMoving = moved;
    this.#deadline = deadline !== null && head.timestamp < deadline ? deadline : null;
  }

  /** Events were read that a step may have waited for. */
  expectMore(): void {
    this.#isMoving = true;
  }
}
