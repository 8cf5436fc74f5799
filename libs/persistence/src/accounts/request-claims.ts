import type { RequestIdentity } from '@freehold/market';
import type { Sql } from '../database.ts';

export type Claim =
  | { readonly outcome: 'claimed' }
  | { readonly outcome: 'repeated'; readonly subject: string }
  | { readonly outcome: 'key-reused' };

/**
 * Claims a request's identity for `subject`, in the transaction that makes the subject. Of requests that come at once, one
 * inserts and the others wait for its commit and then read what it made; what came to nothing is done anew. The rule itself
 * is the database's (`claim_request`), because a streamed request claims, holds and opens in one call.
 */
export async function claimRequest(
  tx: Sql,
  orgId: string,
  identity: RequestIdentity | null,
  subject: string,
): Promise<Claim> {
  if (identity === null) return { outcome: 'claimed' };
  const [claim] = await tx.query<{ outcome: Claim['outcome']; earlier: string | null }>(
    'SELECT outcome, earlier FROM claim_request($1, $2, $3, $4, $5, $6)',
    [orgId, ...identityParams(identity), subject],
  );
  if (claim?.outcome === 'repeated' && claim.earlier !== null) return { outcome: 'repeated', subject: claim.earlier };
  return { outcome: claim?.outcome === 'claimed' ? 'claimed' : 'key-reused' };
}

/** Key, route, hash and window, as `claim_request` and `open_stream` take them. */
export function identityParams(identity: RequestIdentity | null): readonly unknown[] {
  return identity === null
    ? [null, null, null, null]
    : [identity.key, identity.route, identity.bodyHash, identity.replayWithinMs];
}
