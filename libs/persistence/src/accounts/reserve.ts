import type { Amount } from '@freehold/domain';
import type { NoMoney } from '@freehold/market';
import type { Sql } from '../database.ts';

export interface Reservation {
  readonly orgId: string;
  /** Null: no key asked for it, so no daily cap counts it. */
  readonly keyId: string | null;
  readonly jobId: string;
  readonly amount: Amount;
}

/**
 * Moves the cap of a job from its organisation's balance into the job's hold, in the caller's transaction, or says what is
 * missing. Locks and sums are the database's (`hold_funds`), which a streamed request uses too.
 */
export async function reserve(tx: Sql, { orgId, keyId, jobId, amount }: Reservation): Promise<NoMoney | null> {
  const [held] = await tx.query<{ refusal: NoMoney['why'] | null; available: string }>(
    'SELECT refusal, available FROM hold_funds($1, $2, $3, $4)',
    [orgId, keyId, jobId, String(amount)],
  );
  if (held === undefined) throw new Error(`Holding ${amount} for ${jobId}: the database gave no answer`);
  return held.refusal === null ? null : { why: held.refusal, balance: BigInt(held.available) };
}
