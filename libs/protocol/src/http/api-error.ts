/** What every refused request answers, all four keys always: SDKs read each of them. */
export interface ApiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: ApiErrorType;
    readonly param: string | null;
    readonly code: string | null;
  };
  /** What a program may want to know beside it. The error itself keeps exactly its four keys. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

export type ApiErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'not_found_error'
  | 'insufficient_quota'
  | 'rate_limit_error'
  | 'idempotency_error'
  | 'server_error';

export interface ApiErrorDetail {
  readonly status: number;
  readonly type: ApiErrorType;
  readonly code: string;
  readonly message: string;
  readonly param?: string | null;
  /** Seconds after which the same request may succeed. Absent: never by waiting, and clients are told not to retry. */
  readonly retryAfterS?: number;
  /** What a program may want to know beside the text. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** A request that is refused, with everything the answer says. Thrown by use cases of the requester's side, rendered by api. */
export class ApiError extends Error {
  readonly status: number;
  readonly type: ApiErrorType;
  readonly code: string;
  readonly param: string | null;
  readonly retryAfterS: number | null;
  readonly detail: Readonly<Record<string, unknown>> | null;

  constructor(detail: ApiErrorDetail) {
    super(detail.message);
    this.name = 'ApiError';
    this.status = detail.status;
    this.type = detail.type;
    this.code = detail.code;
    this.param = detail.param ?? null;
    this.retryAfterS = detail.retryAfterS ?? null;
    this.detail = detail.detail ?? null;
  }

  body(): ApiErrorBody {
    const error = { message: this.message, type: this.type, param: this.param, code: this.code };
    return this.detail === null ? { error } : { error, detail: this.detail };
  }
}

export function invalidRequest(code: string, message: string, param: string | null = null): ApiError {
  return new ApiError({ status: 400, type: 'invalid_request_error', code, message, param });
}

/** The same for what is not there and for what is another tenant's: ids of others cannot be probed. */
export function notFound(what: string, id: string): ApiError {
  return new ApiError({
    status: 404,
    type: 'invalid_request_error',
    code: `${what}_not_found`,
    message: `No ${what} with id '${id.slice(0, 64)}' in this organisation.`,
  });
}

export function insufficientBalance(needed: bigint, balance: bigint, format: (amount: bigint) => string): ApiError {
  return new ApiError({
    status: 402,
    type: 'insufficient_quota',
    code: 'insufficient_balance',
    message: `This may cost up to ${format(needed)} and the balance is ${format(balance)}. Add funds, or lower it: fewer rows, a smaller max_tokens, or metadata.max_cost.`,
    detail: { needed: format(needed), balance: format(balance) },
  });
}
