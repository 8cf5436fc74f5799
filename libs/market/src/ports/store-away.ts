/**
 * A store behind a port cannot be reached: it stops, starts, recovers, or takes no more connections. It is back in seconds, or
 * somebody is paged. Thrown by the store's adapter, so that no other refused connection is taken for it.
 */
export class StoreAway extends Error {
  /** What the driver or the socket said: an SQLSTATE, or as `ECONNREFUSED`. */
  readonly code: string | null;

  constructor(cause: unknown) {
    const { code, message } = cause as { readonly code?: unknown; readonly message?: unknown };
    super(typeof message === 'string' && message !== '' ? message : 'the store cannot be reached', { cause });
    this.name = 'StoreAway';
    this.code = typeof code === 'string' ? code : null;
  }
}
