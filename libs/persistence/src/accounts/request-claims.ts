import type { RequestIdentity } from '@freehold/market';
import type { Sql } from '../database.ts';

export type Claim =
  | { readonly outcome: 'claimed' }
  | { readonly outcome: 'repeated'; readonly subject: string }
  | { readonly outcome: 'key-reused' };

/**
 * Claims a request's identity for `subject`, in the transaction that makes the subject. Of requests that come at once, one
 * inserts and the others wait for its commit and then read what it made.
 *
 * @param isVoid Asked about an earlier subject: true when nothing came of it, so that the repetition is done anew.
 */
export async function claimRequest(
  tx: Sql,
  orgId: string,
  identity: RequestIdentity | null,
  subject: string,
  isVoid: (subject: string) => Promise<boolean> = async () => false,
): Promise<Claim> {
  if (identity === null) return { outcome: 'claimed' };
  const { key, route, bodyHash, replayWithinMs } = identity;
  const made = await tx.query(
    `INSERT INTO idempotency (org_id, key, route, body_hash, status, subject) VALUES ($1, $2, $3, $4, 200, $5)
     ON CONFLICT (org_id, key) DO NOTHING RETURNING 1`,
    [orgId, key, route, bodyHash, subject],
  );
  if (made.length > 0) return { outcome: 'claimed' };
  const [earlier] = await tx.query<{ route: string; body_hash: Buffer; subject: string; fresh: boolean }>(
    `SELECT route, body_hash, subject, created_at > clock_timestamp() - $3 * interval '1 millisecond' AS fresh
     FROM idempotency WHERE org_id = $1 AND key = $2 FOR UPDATE`,
    [orgId, key, replayWithinMs],
  );
  if (earlier !== undefined && earlier.fresh) {
    if (earlier.route !== route || !earlier.body_hash.equals(bodyHash)) return { outcome: 'key-reused' };
    if (!(await isVoid(earlier.subject))) return { outcome: 'repeated', subject: earlier.subject };
  }
  await tx.query(
    `UPDATE idempotency SET route = $3, body_hash = $4, subject = $5, created_at = clock_timestamp() WHERE org_id = $1 AND key = $2`,
    [orgId, key, route, bodyHash, subject],
  );
  return { outcome: 'claimed' };
}
