import { cover, type AccountRef, type LedgerEntry } from '@freehold/domain';
import type { Sql } from '../database.ts';

interface Held extends AccountRef {
  readonly amount: string;
}

/** The entry as {@link cover} makes it, with the accounts' rows locked and their shortages written down; it is for the caller to post. */
export async function covered(tx: Sql, entry: LedgerEntry): Promise<LedgerEntry> {
  const accounts = [entry.postings.map(({ kind }) => kind), entry.postings.map(({ owner }) => owner)];
  const balances = await tx.query<Held>(
    `SELECT kind, owner, balance AS amount FROM account
     WHERE asset = $3 AND (kind, owner) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY id FOR UPDATE`,
    [...accounts, entry.asset],
  );
  const shortages = await tx.query<Held>(
    `SELECT kind, owner, amount FROM chain_shortage
     WHERE (kind, owner) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY kind, owner FOR UPDATE`,
    accounts,
  );
  const result = cover(entry, (account) => ({
    balance: amountOf(balances, account),
    short: amountOf(shortages, account),
  }));
  if (result.shortages.length > 0)
    await tx.query(
      `INSERT INTO chain_shortage AS s (kind, owner, amount) SELECT * FROM unnest($1::text[], $2::text[], $3::numeric[])
       ON CONFLICT (kind, owner) DO UPDATE SET amount = excluded.amount`,
      [
        result.shortages.map(({ kind }) => kind),
        result.shortages.map(({ owner }) => owner),
        result.shortages.map(({ short }) => String(short)),
      ],
    );
  return result.entry;
}

function amountOf(rows: readonly Held[], { kind, owner }: AccountRef): bigint {
  return BigInt(rows.find((row) => row.kind === kind && row.owner === owner)?.amount ?? 0);
}
