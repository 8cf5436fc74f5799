/** How a request is recognised when it comes again. */
export interface RequestIdentity {
  /** The client's `Idempotency-Key`, or one that follows from API key, route and body for clients that never send any. */
  readonly key: string;
  readonly route: string;
  /** sha256: the same key with another body is a mistake, and is refused. */
  readonly bodyHash: Uint8Array;
  /** Answers an earlier request of this identity when it is younger than this; 0 always makes something new. */
  readonly replayWithinMs: number;
}

/** What became of a request that must not be done twice. */
export type Once<T> =
  | { readonly outcome: 'made'; readonly value: T }
  /** The earlier request's result; nothing was done now. */
  | { readonly outcome: 'repeated'; readonly value: T }
  /** The key belongs to another route or body. */
  | { readonly outcome: 'key-reused' };

/** Cursor pagination as OpenAI's lists have it. */
export interface Page {
  readonly after: string | null;
  readonly limit: number;
  readonly order: 'asc' | 'desc';
}

export interface Listed<T> {
  readonly items: readonly T[];
  readonly hasMore: boolean;
}
