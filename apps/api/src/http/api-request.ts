import type { Request } from 'express';
import type { KeyRecord, RequestFacts } from '@freehold/market';

/** A request with what middleware and guards found out about it. */
export interface ApiRequest extends Request {
  requestId: string;
  /** sha256 of the JSON body as it came; of nothing when there was none. */
  bodyHash?: Uint8Array;
  caller?: KeyRecord;
}

/** By what a repeated request is recognised, as far as headers tell. */
export function requestFacts(request: ApiRequest, caller: KeyRecord): Omit<RequestFacts, 'bodyHash'> {
  const count = request.header('x-stainless-retry-count');
  return {
    keyId: caller.id,
    route: `${request.method} ${request.path}`,
    idempotencyKey: request.header('idempotency-key') ?? null,
    retryCount: count !== undefined && /^[0-9]{1,3}$/.test(count) ? Number(count) : null,
  };
}
