import { canonicalHash, ApiError } from '@freehold/protocol';
import type { RequestIdentity } from './ports/once.ts';

/** How long an `Idempotency-Key` is remembered: as long as Stripe documents. */
export const IDEMPOTENCY_KEY_MS = 24 * 3_600_000;
/** OpenAI's SDKs never send a key; they retry within seconds, and give a request up after ten minutes. */
export const RETRY_WINDOW_MS = 10 * 60_000;
export const IDEMPOTENCY_KEY_CHARS_MAX = 255;

export interface RequestFacts {
  readonly keyId: string;
  readonly route: string;
  readonly bodyHash: Uint8Array;
  /** The header, when the client sent one. */
  readonly idempotencyKey: string | null;
  /** `x-stainless-retry-count`: 0 for a first try, null when the client does not count. */
  readonly retryCount: number | null;
}

/**
 * By what a repeated request is recognised. A client's own key answers for a day. Without one, a retry (count ≥ 1) of the
 * same API key, route and body within ten minutes gets the first result, while a first try with the same body is new work.
 */
export function identityOf(facts: RequestFacts): RequestIdentity | null {
  const { route, bodyHash } = facts;
  if (facts.idempotencyKey !== null) {
    if (facts.idempotencyKey === '' || facts.idempotencyKey.length > IDEMPOTENCY_KEY_CHARS_MAX) {
      throw new ApiError({
        status: 400,
        type: 'idempotency_error',
        code: 'invalid_idempotency_key',
        message: `Idempotency-Key of ${facts.idempotencyKey.length} characters: expected 1 to ${IDEMPOTENCY_KEY_CHARS_MAX}.`,
      });
    }
    return { key: `key:${facts.idempotencyKey}`, route, bodyHash, replayWithinMs: IDEMPOTENCY_KEY_MS };
  }
  if (facts.retryCount === null) return null;
  const hash = Buffer.from(canonicalHash({ key: facts.keyId, route, body: Buffer.from(bodyHash).toString('hex') }));
  return {
    key: `retry:${hash.toString('hex')}`,
    route,
    bodyHash,
    replayWithinMs: facts.retryCount >= 1 ? RETRY_WINDOW_MS : 0,
  };
}

/** The key was used for something else: doing either would be wrong. */
export function keyReused(): ApiError {
  return new ApiError({
    status: 422,
    type: 'idempotency_error',
    code: 'idempotency_key_reused',
    message: 'This Idempotency-Key was used with another route or body. Use a new key for a new request.',
  });
}
