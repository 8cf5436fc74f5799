import { ledger, type AccountRef, type Amount, type LedgerEntry } from '@freehold/domain';
import type { Database, Sql } from '../database.ts';
import { covered } from './cover-shortage.ts';

/**
 * Writes entries in the caller's transaction. An entry whose (kind, ref) was written before is left alone, so every
 * caller may run twice. Entries without lines (a charge of nothing) are not written.
 *
 * @returns the refs written now. An account that would go negative, or a sum that is not zero, fails the transaction.
 */
export async function post(tx: Sql, entries: readonly LedgerEntry[]): Promise<readonly string[]> {
  const wanted = entries.filter((entry) => entry.postings.length > 0).map(ledger.checked);
  if (wanted.length === 0) return [];
  const lines = wanted.flatMap((entry) => entry.postings.map((posting) => ({ ...posting, entry })));
  const accounts = [
    lines.map(({ kind }) => kind),
    lines.map(({ owner }) => owner),
    lines.map(({ entry }) => entry.asset),
  ];
  await tx.query(
    `INSERT INTO account (kind, owner, asset)
     SELECT DISTINCT kind, owner, asset FROM unnest($1::text[], $2::text[], $3::text[]) AS line (kind, owner, asset)
     WHERE NOT EXISTS (SELECT 1 FROM account a WHERE (a.kind, a.owner, a.asset) = (line.kind, line.owner, line.asset))
     ORDER BY kind, owner, asset
     ON CONFLICT DO NOTHING`,
    accounts,
  );
  // Lines go in by account id, so that no two transactions wait in a circle; gains first, so that entries may build on each other.
  const written = await tx.query<{ ref: string }>(
    `WITH written AS (
       INSERT INTO ledger_transaction (kind, ref)
       SELECT kind, ref FROM unnest($1::text[], $2::text[]) AS entry (kind, ref)
       ON CONFLICT (kind, ref) DO NOTHING RETURNING id, kind, ref
     ), lines AS (
       INSERT INTO posting (transaction_id, account_id, asset, amount)
       SELECT written.id, account.id, account.asset, line.amount
       FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::numeric[])
         AS line (tx_kind, tx_ref, kind, owner, asset, amount)
       JOIN written ON written.kind = line.tx_kind AND written.ref = line.tx_ref
       JOIN account ON (account.kind, account.owner, account.asset) = (line.kind, line.owner, line.asset)
       ORDER BY account.id, line.amount DESC
     )
     SELECT ref FROM written`,
    [
      wanted.map(({ kind }) => kind),
      wanted.map(({ ref }) => ref),
      lines.map(({ entry }) => entry.kind),
      lines.map(({ entry }) => entry.ref),
      ...accounts,
      lines.map(({ amount }) => String(amount)),
    ],
  );
  return written.map(({ ref }) => ref);
}

/**
 * Gives what is left of finished jobs' holds back to their orgs. Once per job, for ever.
 * Call it only when no further charge can come: the jobs' rows are locked and none of their tasks is in flight.
 */
export async function releaseHolds(tx: Sql, jobIds: readonly string[]): Promise<void> {
  if (jobIds.length === 0) return;
  const held = await tx.query<{ id: string; org_id: string; balance: string; owes: boolean }>(
    `SELECT job.id, job.org_id, account.balance, EXISTS (SELECT 1 FROM chain_shortage s
       WHERE s.kind = 'balance' AND s.owner = job.org_id AND s.amount > 0) AS owes FROM job
     JOIN account ON account.kind = 'hold' AND account.owner = job.id AND account.balance > 0
     WHERE job.id = ANY($1)`,
    [jobIds],
  );
  const releases = held.map(({ id, org_id, balance }) => ledger.release(org_id, id, BigInt(balance)));
  await post(
    tx,
    releases.filter((_, n) => held[n]?.owes !== true),
  );
  // What the chain took back while the job held it is not there to be spent: the operator, who stands in for it, comes first.
  for (const [n, release] of releases.entries())
    if (held[n]?.owes === true) await post(tx, [await covered(tx, release)]);
}

/** The operator lends an org so much. @returns false when `ref` was granted before. */
export async function grantCredits(database: Database, org: string, amount: Amount, ref: string): Promise<boolean> {
  const written = await database.transaction((tx) => post(tx, [ledger.credit(org, amount, ref)]), { durable: true });
  return written.length > 0;
}

export interface OrgBalance {
  /** May be spent, or held for a new job. */
  readonly available: Amount;
  /** Set aside for jobs that still run. */
  readonly held: Amount;
}

export async function balanceOfOrg(sql: Sql, org: string): Promise<OrgBalance> {
  const [row] = await sql.query<{ available: string; held: string }>(
    `SELECT coalesce((SELECT balance FROM account WHERE kind = 'balance' AND owner = $1 AND asset = 'money'), 0) AS available,
       coalesce((SELECT sum(account.balance) FROM job JOIN account ON account.kind = 'hold' AND account.owner = job.id
         WHERE job.org_id = $1 AND job.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')), 0) AS held`,
    [org],
  );
  return { available: BigInt(row?.available ?? 0), held: BigInt(row?.held ?? 0) };
}

export async function balanceOfAccount(sql: Sql, account: AccountRef, asset: string = ledger.MONEY): Promise<bigint> {
  const [row] = await sql.query<{ balance: string }>(
    'SELECT balance FROM account WHERE kind = $1 AND owner = $2 AND asset = $3',
    [account.kind, account.owner, asset],
  );
  return BigInt(row?.balance ?? 0);
}
