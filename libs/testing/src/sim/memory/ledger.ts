import { ledger, type AccountRef, type LedgerEntry } from '@freehold/domain';
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
  if (rest > 0n) post(db, [ledger.release(db.jobs.must(jobId).orgId, jobId, rest)]);
}

/** What an entry would take below zero, the operator takes instead, and is paid back by the next money that reaches that account. */
export function covered(db: MemoryDatabase, entry: LedgerEntry): LedgerEntry {
  let operator = 0n;
  const lines = entry.postings.flatMap((posting) => {
    if (posting.kind === 'operator') {
      operator += posting.amount;
      return [];
    }
    const adjusted = posting.kind === 'escrow' ? posting.amount : adjust(db, posting);
    operator += posting.amount - adjusted;
    return adjusted === 0n ? [] : [{ ...posting, amount: adjusted }];
  });
  return { ...entry, postings: operator === 0n ? lines : [...lines, { ...ledger.OPERATOR, amount: operator }] };
}

function adjust(db: MemoryDatabase, posting: AccountRef & { readonly amount: bigint }): bigint {
  const key = `${posting.kind} ${posting.owner}`;
  const short = db.shortages.get(key)?.amount ?? 0n;
  if (posting.amount < 0n) {
    const available = balanceOf(db, posting);
    if (available >= -posting.amount) return posting.amount;
    db.shortages.put(key, { amount: short - posting.amount - available });
    return -available;
  }
  const back = short < posting.amount ? short : posting.amount;
  if (back > 0n) db.shortages.put(key, { amount: short - back });
  return posting.amount - back;
}
