import { ledger, type Amount } from '@freehold/domain';
import type { NoMoney } from '@freehold/market';
import type { Sql } from '../database.ts';
import { balanceOfAccount, post } from '../ledger/ledger.ts';

export interface Reservation {
  readonly orgId: string;
  /** Null: no key asked for it, so no daily cap counts it. */
  readonly keyId: string | null;
  readonly jobId: string;
  readonly amount: Amount;
}

/**
 * Moves the cap of a job from its organisation's balance into the job's hold, in the caller's transaction. The key and the
 * balance are locked before they are read: of two jobs that come at once, the second sees what the first has taken.
 */
export async function reserve(tx: Sql, { orgId, keyId, jobId, amount }: Reservation): Promise<NoMoney | null> {
  const left = keyId === null ? null : await leftToday(tx, keyId, jobId);
  if (left !== null && left < amount) return { why: 'daily-cap', balance: left };
  const account = ledger.balanceOf(orgId);
  const [row] = await tx.query<{ balance: string }>(
    `SELECT balance FROM account WHERE kind = $1 AND owner = $2 AND asset = $3 FOR UPDATE`,
    [account.kind, account.owner, ledger.MONEY],
  );
  const balance = BigInt(row?.balance ?? 0);
  if (balance < amount) return { why: 'insufficient-balance', balance };
  await post(tx, [ledger.hold(orgId, jobId, amount)]);
  return null;
}

/** What a key may still commit today (UTC). Live jobs count with their cap, finished ones with what they cost. */
async function leftToday(tx: Sql, keyId: string, jobId: string): Promise<Amount | null> {
  const [key] = await tx.query<{ daily_cap: string }>(
    'SELECT daily_cap FROM api_key WHERE id = $1 AND daily_cap IS NOT NULL FOR UPDATE',
    [keyId],
  );
  if (key === undefined) return null;
  const [spent] = await tx.query<{ total: string }>(
    `SELECT coalesce(sum(CASE WHEN state IN ('validating', 'in_progress', 'finalizing', 'cancelling') THEN coalesce(cap, 0) ELSE charged END), 0) AS total
     FROM job WHERE api_key_id = $1 AND id <> $2 AND created_at >= date_trunc('day', clock_timestamp(), 'UTC')`,
    [keyId, jobId],
  );
  const left = BigInt(key.daily_cap) - BigInt(spent?.total ?? 0);
  return left > 0n ? left : 0n;
}

/** What an organisation can spend. */
export async function spendable(sql: Sql, orgId: string): Promise<Amount> {
  return balanceOfAccount(sql, ledger.balanceOf(orgId));
}
