import { ledger, type LedgerEntry, type Posting } from '@freehold/domain';
import type { Sql } from '../database.ts';

/**
 * What an entry would take below zero, the operator takes instead: it is remembered, and paid back by the next money that
 * reaches that account. So the ledger follows the chain even where a removed deposit was already spent.
 */
export async function covered(tx: Sql, entry: LedgerEntry): Promise<LedgerEntry> {
  const lines: Posting[] = [];
  let operator = 0n;
  for (const posting of entry.postings) {
    const adjusted = await adjust(tx, entry.asset, posting);
    operator += posting.amount - adjusted;
    if (posting.kind === 'operator') operator += adjusted;
    else if (adjusted !== 0n) lines.push({ ...posting, amount: adjusted });
  }
  if (operator !== 0n) lines.push({ ...ledger.OPERATOR, amount: operator });
  return { ...entry, postings: lines };
}

async function adjust(tx: Sql, asset: string, posting: Posting): Promise<bigint> {
  if (posting.kind === 'escrow' || posting.kind === 'operator') return posting.amount;
  return posting.amount < 0n ? takeUpTo(tx, asset, posting) : payBack(tx, posting);
}

async function takeUpTo(tx: Sql, asset: string, { kind, owner, amount }: Posting): Promise<bigint> {
  const [account] = await tx.query<{ balance: string }>(
    'SELECT balance FROM account WHERE kind = $1 AND owner = $2 AND asset = $3 FOR UPDATE',
    [kind, owner, asset],
  );
  const available = BigInt(account?.balance ?? 0);
  if (available >= -amount) return amount;
  await tx.query(
    `INSERT INTO chain_shortage AS s (kind, owner, amount) VALUES ($1, $2, $3)
     ON CONFLICT (kind, owner) DO UPDATE SET amount = s.amount + excluded.amount`,
    [kind, owner, String(-amount - available)],
  );
  return -available;
}

async function payBack(tx: Sql, { kind, owner, amount }: Posting): Promise<bigint> {
  const [short] = await tx.query<{ amount: string }>(
    'SELECT amount FROM chain_shortage WHERE kind = $1 AND owner = $2 AND amount > 0 FOR UPDATE',
    [kind, owner],
  );
  if (short === undefined) return amount;
  const back = BigInt(short.amount) < amount ? BigInt(short.amount) : amount;
  await tx.query('UPDATE chain_shortage SET amount = amount - $3::numeric WHERE kind = $1 AND owner = $2', [
    kind,
    owner,
    String(back),
  ]);
  return amount - back;
}
