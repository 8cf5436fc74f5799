import { cover, ledger, type AccountRef, type LedgerEntry } from '@freehold/domain';
import { CheckViolation, type MemoryDatabase } from './database.ts';

/** Accounts that may be below zero: what the chain holds for us, and what the operator lends. */
const MAY_BE_NEGATIVE = new Set(['escrow', 'operator']);

/** Writes entries once each by (kind, ref). An account that would go negative undoes the whole transaction. */
export function post(db: MemoryDatabase, entries: readonly LedgerEntry[]): void {
  const touched = new Set<string>();
  for (const entry of entries) {
    const key = `${entry.kind} ${entry.ref}`;
    if (entry.postings.length === 0 || db.entries.get(key) !== undefined) continue;
    db.entries.insert(key, { ...ledger.checked(entry), turn: db.serial() });
    for (const posting of entry.postings) touched.add(add(db, posting, posting.amount));
  }
  for (const key of touched) {
    const { kind, owner, balance } = db.accounts.must(key);
    if (balance < 0n && !MAY_BE_NEGATIVE.has(kind)) throw new CheckViolation(`${kind} of ${owner} would be ${balance}`);
  }
}

function add(db: MemoryDatabase, { kind, owner }: AccountRef, amount: bigint): string {
  const key = `${kind} ${owner}`;
  db.accounts.put(key, { kind, owner, balance: balanceOf(db, { kind, owner }) + amount });
  return key;
}

export function balanceOf(db: MemoryDatabase, { kind, owner }: AccountRef): bigint {
  return db.accounts.get(`${kind} ${owner}`)?.balance ?? 0n;
}

/** Gives what is left of a finished job's hold back. */
export function releaseHold(db: MemoryDatabase, jobId: string): void {
  const rest = balanceOf(db, ledger.holdOf(jobId));
  if (rest > 0n) post(db, [covered(db, ledger.release(db.jobs.must(jobId).orgId, jobId, rest))]);
}

/** The entry as the operator's cover makes it, with the shortages written down. */
export function covered(db: MemoryDatabase, entry: LedgerEntry): LedgerEntry {
  const result = cover(entry, (account) => ({
    balance: balanceOf(db, account),
    short: db.shortages.get(`${account.kind} ${account.owner}`)?.amount ?? 0n,
  }));
  for (const { kind, owner, short } of result.shortages)
    db.shortages.put(`${kind} ${owner}`, { kind, owner, amount: short });
  return result.entry;
}
