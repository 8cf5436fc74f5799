import { dueFor, unitsFromJson } from '@freehold/domain';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import type { CoordinatorNews } from '@freehold/wiring/node';
import type { Coordinator } from './coordinators.ts';
import type { LeaseRun } from './lease-run.ts';
import type { LeasesInHand } from './leases-in-hand.ts';
import type { Accepted, Kept, Receipts } from './receipts.ts';
import type { UnsignedDesk } from './unsigned-desk.ts';

type News<Type extends CoordinatorNews['type']> = Extract<CoordinatorNews, { readonly type: Type }>;

export interface VerdictDeskParts {
  readonly leases: LeasesInHand;
  readonly receipts: Receipts;
  readonly unsigned: UnsignedDesk;
  readonly payout: string;
  /** False when other nodes are paid at the same address. */
  readonly ownPayout: boolean;
  readonly log: (event: string, detail: Record<string, unknown>) => void;
}

/**
 * What coordinators say of work that is over: they have it, it is void, it is accepted. Kept is what can be shown or cashed; words
 * about anything that this node never did are written nowhere, because a coordinator could fill the disk with them.
 */
export class VerdictDesk {
  readonly #parts: VerdictDeskParts;

  constructor(parts: VerdictDeskParts) {
    this.#parts = parts;
  }

  async countersigned(coordinator: Coordinator, news: News<'countersigned'>): Promise<void> {
    const { receipts, log } = this.#parts;
    if (!this.#worksOn(news.lease, coordinator)) return log('countersigned-unknown', { lease: leaseKey(news.lease) });
    await receipts.keepCommit(news.lease, { ...news, coordinator: coordinator.key });
  }

  async rejected({ lease, why }: News<'rejected'>): Promise<void> {
    const { leases, receipts, log } = this.#parts;
    log('lease-rejected', { lease: leaseKey(lease), why });
    await receipts.forgetCommit(lease);
    await leases.reject(lease);
  }

  /** Resolves when what came is on the disk. Returns what was kept by it, and what was not and why. */
  async accepted(coordinator: Coordinator, accepted: Accepted): Promise<readonly Kept[]> {
    const { leases, receipts, payout, ownPayout, log } = this.#parts;
    const { key, delegate, signatures } = coordinator;
    const lease = leaseOf(accepted);
    const run = lease === null ? null : leases.find(lease);
    const isKnown = lease !== null && this.#worksOn(lease, coordinator);
    if (lease !== null) {
      this.#compareCharge(run, accepted.receipt);
      // First what is paid for, then the voucher: no kept voucher is without its results, wherever the node is killed.
      await leases.accept(lease);
    }
    const outcomes = await receipts.keep(accepted, {
      coordinator: key,
      delegate,
      payout,
      ownPayout,
      isKnown,
      signatures,
    });
    this.#noteSigned(coordinator, accepted, outcomes, run);
    for (const outcome of outcomes) if (!outcome.kept) log('voucher-refused', { ...outcome });
    // Without a good voucher the signed word for the commitment is all the evidence there is.
    if (lease !== null && outcomes.some((outcome) => outcome.kept && outcome.task === lease.task))
      await receipts.forgetCommit(lease);
    return outcomes;
  }

  #worksOn(lease: LeaseRef, coordinator: Coordinator): boolean {
    const { leases, unsigned } = this.#parts;
    return leases.find(lease) !== null || unsigned.knows(lease.task, coordinator.key);
  }

  /** What a good voucher covers is no longer unsigned; an acceptance without one is a word alone. */
  #noteSigned(
    coordinator: Coordinator,
    { receipt: { task }, voucher }: Accepted,
    outcomes: readonly Kept[],
    run: LeaseRun | null,
  ): void {
    const { unsigned } = this.#parts;
    const isPaid = voucher !== null && outcomes.some((outcome) => outcome.kept && outcome.task === task);
    if (!isPaid && run !== null) unsigned.left(run, run.done);
    else if (!isPaid && typeof task === 'string') unsigned.unpaid(task, coordinator.key);
    for (const outcome of outcomes)
      if (outcome.kept && (outcome.task !== task || voucher !== null)) unsigned.signed(outcome.task);
  }

  /** Less than the rates say can be right (the requester's cap was reached), but the owner wants to know. */
  #compareCharge(run: LeaseRun | null, receipt: Record<string, unknown>): void {
    const usage = run?.usageOf(run.done);
    if (run === null || usage === null || usage === undefined) return;
    const due = dueFor(usage, unitsFromJson(run.head.rates as Record<string, string>));
    if (String(due) !== String(receipt['charge']))
      this.#parts.log('charge-differs', { lease: run.key, expected: String(due), charge: String(receipt['charge']) });
  }
}

/** The lease that a message is about; null when its receipt names none. */
export function leaseOf(news: CoordinatorNews | Accepted): LeaseRef | null {
  if ('lease' in news) return news.lease;
  const { task, epoch } = news.receipt;
  return typeof task === 'string' && typeof epoch === 'number' ? { task, epoch } : null;
}
