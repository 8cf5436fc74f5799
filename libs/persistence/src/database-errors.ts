import { StoreAway } from '@freehold/market';

/** What PostgreSQL (or the socket under it) reports; see https://www.postgresql.org/docs/current/errcodes-appendix.html */
interface CodedError {
  readonly code?: unknown;
  readonly constraint?: unknown;
  readonly message?: unknown;
}

/** The connection went away while COMMIT was under way: the transaction may or may not have happened. Look before doing it again. */
export class CommitUnknownError extends Error {
  readonly code = 'COMMIT_UNKNOWN';

  constructor(cause: unknown) {
    super('The connection was lost during COMMIT: expected an answer, got none. Read the state before trying again.', {
      cause,
    });
    this.name = 'CommitUnknownError';
  }
}

/** SQLSTATE of a serialization failure and of a deadlock: the server rolled back, doing all of it again is right. */
const CONFLICTS: readonly string[] = ['40001', '40P01'];
/** admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections, and the class of connection exceptions. */
const LOST: readonly string[] = ['57P01', '57P02', '57P03', '53300', '08000', '08001', '08003', '08004', '08006'];
/** EAGAIN: so says a Unix socket whose queue of connections is full, as that of a server that was stopped is. */
const LOST_SOCKET: readonly string[] = [
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOENT',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAGAIN',
];
/** pg gives these without a code. */
const LOST_TEXT =
  /Connection terminated|Client has encountered a connection error|timeout exceeded when trying to connect|Client was closed|not queryable|Query runner already released/i;

export function isConflict(error: unknown): boolean {
  const { code } = error as CodedError;
  return typeof code === 'string' && CONFLICTS.includes(code);
}

export function isConnectionLoss(error: unknown): boolean {
  if (error instanceof StoreAway) return true;
  if (error instanceof AggregateError) return error.errors.some(isConnectionLoss);
  const { code, message } = error as CodedError;
  if (typeof code === 'string') return LOST.includes(code) || LOST_SOCKET.includes(code);
  return typeof message === 'string' && LOST_TEXT.test(message);
}

/** A unique constraint said no; with `constraint`, that very one. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  const found = error as CodedError;
  return found.code === '23505' && (constraint === undefined || found.constraint === constraint);
}

/** A CHECK (or one of our triggers) said no. */
export function isCheckViolation(error: unknown, constraint?: string): boolean {
  const found = error as CodedError;
  return found.code === '23514' && (constraint === undefined || found.constraint === constraint);
}
