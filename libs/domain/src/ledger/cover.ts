import { OPERATOR, type AccountRef, type LedgerEntry, type Posting } from './posting.ts';

/** What an account has, and what the operator advanced in its place when it had not enough. */
export interface Standing {
  readonly balance: bigint;
  readonly short: bigint;
}

export interface Covered {
  readonly entry: LedgerEntry;
  /** Accounts whose shortage changes, with what it is from now on. */
  readonly shortages: readonly (AccountRef & { readonly short: bigint })[];
}

/**
 * What an entry would take below zero, the operator takes instead: it is remembered, and paid back by the next money that
 * reaches that account. So the ledger follows the chain even where a removed deposit was already spent, and
 * Σ over all accounts, no account below zero, and escrow = chain stay true whatever a reorganisation takes away.
 *
 * @param standingOf How the entry's accounts stand before it.
 */
export function cover(entry: LedgerEntry, standingOf: (account: AccountRef) => Standing): Covered {
  const lines: Posting[] = [];
  const shortages: (AccountRef & { short: bigint })[] = [];
  let operator = 0n;
  for (const posting of entry.postings) {
    const { kind, owner, amount } = posting;
    if (kind === 'operator') operator += amount;
    else if (kind === 'escrow') lines.push(posting);
    else {
      const { balance, short } = standingOf({ kind, owner });
      const moved = amount < 0n ? larger(amount, -balance) : amount - smaller(short, amount);
      operator += amount - moved;
      if (moved !== amount) shortages.push({ kind, owner, short: short - (amount - moved) });
      if (moved !== 0n) lines.push({ ...posting, amount: moved });
    }
  }
  if (operator !== 0n) lines.push({ ...OPERATOR, amount: operator });
  return { entry: { ...entry, postings: lines }, shortages };
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
