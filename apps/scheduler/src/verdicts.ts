import { setTimeout as sleep } from 'node:timers/promises';
import type { Blocks, MonotonicClock, Outbox, Verified } from '@freehold/market';
import { leaseKey, type LeaseRef } from '@freehold/protocol';

/** A lease that waits for auditors has a hand for so long; then the queue asks again, at ever longer intervals. */
const AUDITOR_WAIT_MS = 20_000;
/** Hands of leases that nobody answered for, or whose audit goes on from before. With more, one that comes leaves its hand at once. */
export const WAITING_MAX = 16;
/**
 * Audits that go on without a hand: slow auditors need minutes. With more, one that nobody has a hand for is given up, and begun
 * again. Each may hold the rows of a lease.
 */
export const LONG_MAX = 64;
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
  /** {@link AUDITOR_WAIT_MS}, where it is not another. */
  readonly waitMs?: number;
}

/** One look at a lease, with the audits that it asks for. */
interface Run {
  readonly ended: Promise<Verified>;
  readonly stop: AbortController;
  /** Goes on without a hand. */
  isLong: boolean;
}

/**
 * One lease after the other until its verdict is there: leases that wait for blocks wait together. An audit may take longer than a lease
 * has a hand: it goes on by itself then, and whoever asks for its lease again waits for the same.
 */
export class Verdicts {
  readonly #parts: VerdictParts;
  readonly #runs = new Map<string, Run>();
  /** Hands that wait for auditors. */
  #waiting = 0;
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
    const { clock, waitMs = AUDITOR_WAIT_MS } = this.#parts;
    let untilMs = clock.nowMs() + waitMs;
    for (;;) {
      const before = this.#runs.get(leaseKey(lease));
      const run = before ?? this.#begin(lease);
      const look = (): Promise<Verified | null> => this.#within(run, untilMs - clock.nowMs(), signal);
      const verified = await (before === undefined ? look() : this.#waits(look));
      if (verified?.done === true) return;
      if (verified?.block !== undefined) {
        await this.#pause(verified.retryInMs, verified.block, signal);
        // No auditor was asked until now.
        untilMs = clock.nowMs() + waitMs;
        continue;
      }
      const isWaiting =
        verified !== null &&
        clock.nowMs() < untilMs &&
        (await this.#waits(() => sleep(verified.retryInMs, true, { signal })));
      if (isWaiting !== true)
        throw new Error(
          `No verdict about ${lease.task} yet: ${verified?.why ?? 'its audit goes on'}. It is asked for again.`,
        );
    }
  }

  /** Gives up what goes on without a hand; to be called when no hand is at work any more. */
  async close(): Promise<void> {
    const runs = [...this.#runs.values()];
    for (const { stop } of runs) stop.abort(new Error('the process ends'));
    await Promise.allSettled(runs.map(({ ended }) => ended));
  }

  #begin(lease: LeaseRef): Run {
    const key = leaseKey(lease);
    const stop = new AbortController();
    const ended = this.#verify(lease, stop.signal).finally(() => this.#runs.delete(key));
    const run = { ended, stop, isLong: false };
    this.#runs.set(key, run);
    ended.catch((error: unknown) => {
      if (run.isLong && !stop.signal.aborted) this.#parts.report(lease.task, error);
    });
    return run;
  }

  async #verify(lease: LeaseRef, signal: AbortSignal): Promise<Verified> {
    const verified = await this.#parts.verify(lease, signal);
    if (!verified.done) return verified;
    if (verified.outcome === 'rejected') this.#parts.rejected(lease);
    else this.#parts.passed(verified.endedJob === true);
    if (verified.settle !== undefined) void this.#settle(lease.task, verified.settle);
    return verified;
  }

  /** What a run came to; null where it goes on after the time of its hand, or is given up with it. */
  async #within(run: Run, ms: number, signal: AbortSignal): Promise<Verified | null> {
    const over = new AbortController();
    // Not by `AbortSignal.any`: a signal that lives as long as the process would keep something of each look.
    const onAbort = (): void => over.abort();
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    const time = sleep(Math.max(0, ms), null, { signal: over.signal });
    time.catch(() => undefined);
    try {
      const verified = await Promise.race([run.ended, time]);
      if (verified === null) this.#letGo(run);
      return verified;
    } catch (error) {
      if (!signal.aborted) throw error;
      this.#letGo(run);
      throw signal.reason;
    } finally {
      signal.removeEventListener('abort', onAbort);
      over.abort();
    }
  }

  #letGo(run: Run): void {
    if (run.isLong) return;
    run.isLong = [...this.#runs.values()].filter(({ isLong }) => isLong).length < LONG_MAX;
    if (!run.isLong) run.stop.abort(new Error('too many audits go on'));
  }

  /** Null where enough hands wait already. */
  async #waits<T>(what: () => Promise<T>): Promise<T | null> {
    if (this.#waiting >= WAITING_MAX) return null;
    this.#waiting += 1;
    try {
      return await what();
    } finally {
      this.#waiting -= 1;
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
  async #pause(retryInMs: number, block: bigint, signal: AbortSignal): Promise<void> {
    const { blocks, clock } = this.#parts;
    const untilMs = clock.nowMs() + BLOCK_WAIT_MS;
    do {
      this.#nextLook ??= sleep(retryInMs).then(() => void (this.#nextLook = null));
      await this.#nextLook;
      signal.throwIfAborted();
    } while (clock.nowMs() < untilMs && (await blocks.height()) < block);
  }
}
