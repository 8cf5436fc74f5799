import { setTimeout as sleep } from 'node:timers/promises';
import type { Blocks, MonotonicClock, Outbox, Verified } from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';

/** A lease that waits for auditors has a hand for so long; then the queue asks again, at ever longer intervals. */
const AUDITOR_WAIT_MS = 20_000;
/** How long a lease that waits for the block of its draw goes without a look: it may be voided meanwhile. */
const BLOCK_WAIT_MS = 10_000;

export interface VerdictParts {
  readonly verify: (lease: LeaseRef, signal: AbortSignal) => Promise<Verified>;
  /** The lease's rows wait again. */
  readonly rejected: (lease: LeaseRef) => void;
  /** The lease is over, and its node may be free; so may its job. */
  readonly passed: (endedJob: boolean) => void;
  readonly issueVoucher: (task: string) => Promise<void>;
  readonly outbox: Pick<Outbox, 'done'>;
  readonly blocks: Pick<Blocks, 'height'>;
  readonly clock: MonotonicClock;
  readonly report: (task: string, error: unknown) => void;
}

/** One lease after the other until its verdict is there: leases that wait for blocks wait together. */
export class Verdicts {
  readonly #parts: VerdictParts;
  /** The next look at the chain, of all who wait for a block. */
  #nextLook: Promise<void> | null = null;

  constructor(parts: VerdictParts) {
    this.#parts = parts;
  }

  /**
   * Ends with the verdict. Its voucher goes on by itself: whoever waits for a place here waits for nobody's voucher.
   *
   * @throws {Error} When no auditor answered for a while: leases that nobody looks at must not keep the hands from all others.
   */
  async reach(lease: LeaseRef, signal: AbortSignal): Promise<void> {
    const fromMs = this.#parts.clock.nowMs();
    for (;;) {
      const verified = await this.#parts.verify(lease, signal);
      if (verified.done) {
        if (verified.outcome === 'rejected') this.#parts.rejected(lease);
        else this.#parts.passed(verified.endedJob === true);
        if (verified.settle !== undefined) void this.#settle(lease.task, verified.settle);
        return;
      }
      if (verified.block === undefined && this.#parts.clock.nowMs() - fromMs >= AUDITOR_WAIT_MS)
        throw new Error(`No verdict about ${lease.task} yet: ${verified.why}. It is asked for again.`);
      await this.#pause(verified.retryInMs, verified.block, signal);
    }
  }

  /** While its verdict is in hand the voucher costs a statement less than by the queue; what goes wrong here the queue does again. */
  async #settle(task: string, outboxId: string): Promise<void> {
    try {
      await this.#parts.issueVoucher(task);
      await this.#parts.outbox.done([outboxId]);
    } catch (error) {
      this.#parts.report(task, error);
    }
  }

  /**
   * A look at a lease costs statements: those that wait for a block share one look at the chain instead, and go on together, so
   * that what they write shares commits.
   */
  async #pause(retryInMs: number, block: bigint | undefined, signal: AbortSignal): Promise<void> {
    const { blocks, clock } = this.#parts;
    if (block === undefined) return await sleep(retryInMs, undefined, { signal });
    const untilMs = clock.nowMs() + BLOCK_WAIT_MS;
    do {
      this.#nextLook ??= sleep(retryInMs).then(() => void (this.#nextLook = null));
      await this.#nextLook;
      signal.throwIfAborted();
    } while (clock.nowMs() < untilMs && (await blocks.height()) < block);
  }
}
