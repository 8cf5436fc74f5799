import { DomainError } from '../errors.ts';
import type { Amount } from '../units/units.ts';

/**
 * The books, in double entry. Money comes in from the chain (or is lent by the operator), waits as a requester's balance,
 * is held for a job, is earned lease by lease, and leaves over the chain:
 *
 *     escrow ──deposit──▶ balance ──hold──▶ hold ──charge──▶ provider ──payout──▶ payout ──withdrawal──▶ escrow
 *     operator ──credit──▶ balance ◀──release── hold      └──▶ fees ──withdrawal──▶ escrow
 *
 * Every account but `escrow` and `operator` is never negative. `escrow` is minus what the chain holds for us; `operator`
 * is minus what the operator has lent as credits. The sum over all accounts is zero, always.
 */
export const ACCOUNT_KINDS = ['balance', 'hold', 'provider', 'fees', 'escrow', 'operator', 'payout', 'bond'] as const;
export type AccountKind = (typeof ACCOUNT_KINDS)[number];

export const LEDGER_KINDS = [
  'deposit',
  'credit',
  'hold',
  'release',
  'charge',
  'payout',
  'withdrawal',
  'refund',
  'forfeit',
  'reversal',
  'audit-fee',
] as const;
export type LedgerKind = (typeof LEDGER_KINDS)[number];

/** Owners: an org for `balance`, a job for `hold`, a payout address for `provider` and `payout`, a node's operator for `bond`. */
export interface AccountRef {
  readonly kind: AccountKind;
  readonly owner: string;
}

/** One line: `amount` is added to the account. Positive is what the owner gains. */
export interface Posting extends AccountRef {
  readonly amount: bigint;
}

/** One transaction of a kind per subject (`ref`: a job, a task, a chain event), for ever: that is what makes posting idempotent. */
export interface LedgerEntry {
  readonly kind: LedgerKind;
  readonly ref: string;
  readonly asset: string;
  readonly postings: readonly Posting[];
}

export const MONEY = 'money';
/** There is one of each per book-keeping coordinator. */
export const ESCROW: AccountRef = { kind: 'escrow', owner: 'chain' };
export const OPERATOR: AccountRef = { kind: 'operator', owner: 'operator' };
export const FEES: AccountRef = { kind: 'fees', owner: 'coordinator' };

export function balanceOf(org: string): AccountRef {
  return { kind: 'balance', owner: org };
}
export function holdOf(job: string): AccountRef {
  return { kind: 'hold', owner: job };
}
export function providerOf(payout: string): AccountRef {
  return { kind: 'provider', owner: payout };
}
export function payoutOf(payout: string): AccountRef {
  return { kind: 'payout', owner: payout };
}
export function bondOf(owner: string): AccountRef {
  return { kind: 'bond', owner };
}

/** The operator lends: an API customer's prepaid or trial balance. */
export function credit(org: string, amount: Amount, ref: string): LedgerEntry {
  return entry('credit', ref, [move(OPERATOR, balanceOf(org), amount)]);
}

/** Sets the cap of a job aside. */
export function hold(org: string, job: string, amount: Amount): LedgerEntry {
  return entry('hold', job, [move(balanceOf(org), holdOf(job), amount)]);
}

/** What a finished job did not use goes back. Once per job, after its last charge. */
export function release(org: string, job: string, rest: Amount): LedgerEntry {
  return entry('release', job, [move(holdOf(job), balanceOf(org), rest)]);
}

/** An accepted lease: the provider earns the charge less the fee. One per task, for ever. */
export function charge(work: {
  readonly job: string;
  readonly task: string;
  readonly payout: string;
  readonly charge: Amount;
  readonly fee: Amount;
}): LedgerEntry {
  if (work.fee > work.charge) {
    throw new DomainError({ code: 'LEDGER_FEE_ABOVE_CHARGE', fee: work.fee, charge: work.charge });
  }
  const from = holdOf(work.job);
  return entry('charge', work.task, [
    move(from, providerOf(work.payout), work.charge - work.fee),
    move(from, FEES, work.fee),
  ]);
}

/** Auditors are paid by the coordinator out of its fees, whatever the verdict. */
export function auditFee(payoutAddress: string, amount: Amount, ref: string): LedgerEntry {
  return entry('audit-fee', ref, [move(FEES, providerOf(payoutAddress), amount)]);
}

/** Undoes an entry, line by line: a chain event that a reorganisation removed. Nothing is ever deleted. */
export function reversal(undone: LedgerEntry, ref: string): LedgerEntry {
  return checked({
    kind: 'reversal',
    ref,
    asset: undone.asset,
    postings: undone.postings.map((posting) => ({ ...posting, amount: -posting.amount })),
  });
}

/** Throws unless the postings add up to zero, none is empty, and no account appears twice. */
export function checked(transaction: LedgerEntry): LedgerEntry {
  const sum = transaction.postings.reduce((total, posting) => total + posting.amount, 0n);
  if (sum !== 0n)
    throw new DomainError({ code: 'LEDGER_NOT_ZERO_SUM', kind: transaction.kind, ref: transaction.ref, sum });
  const accounts = new Set(transaction.postings.map(({ kind, owner }) => `${kind} ${owner}`));
  const isClean =
    accounts.size === transaction.postings.length && transaction.postings.every(({ amount }) => amount !== 0n);
  if (!isClean) throw new DomainError({ code: 'LEDGER_EMPTY_OR_DOUBLE', kind: transaction.kind, ref: transaction.ref });
  return transaction;
}

/** So much goes from one account to the other. */
export interface Move {
  readonly from: AccountRef;
  readonly to: AccountRef;
  readonly amount: Amount;
}

export function move(from: AccountRef, to: AccountRef, amount: Amount): Move {
  if (amount < 0n) throw new DomainError({ code: 'LEDGER_AMOUNT_NEGATIVE', from: from.kind, to: to.kind, amount });
  return { from, to, amount };
}

/** Nets the moves per account. Moves of nothing leave no line; an entry without lines is for the caller not to write. */
export function entry(kind: LedgerKind, ref: string, moves: readonly Move[]): LedgerEntry {
  const lines = new Map<string, Posting>();
  const add = (account: AccountRef, amount: bigint): void => {
    const key = `${account.kind} ${account.owner}`;
    lines.set(key, { ...account, amount: (lines.get(key)?.amount ?? 0n) + amount });
  };
  for (const { from, to, amount } of moves) {
    add(from, -amount);
    add(to, amount);
  }
  return checked({ kind, ref, asset: MONEY, postings: [...lines.values()].filter(({ amount }) => amount !== 0n) });
}
