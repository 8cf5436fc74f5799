import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { Response } from 'express';
import { ObjectMissing, ObjectStoreFull, StoreAway } from '@freehold/market';
import { ApiError, invalidRequest } from '@freehold/protocol';
import type { ApiRequest } from './api-request.ts';
import { storageFull } from './room.guard.ts';

/** A database killed hard recovers in 1–3 s. */
const AWAY_RETRY_S = 2;

export type Report = (what: string, facts: Readonly<Record<string, unknown>>) => void;

/** Renders everything that is thrown: four keys, the retry headers, and nothing of our insides. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  readonly #report: Report;

  constructor(report: Report) {
    this.#report = report;
  }

  catch(thrown: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<ApiRequest>();
    const response = host.switchToHttp().getResponse<Response>();
    const error = apiErrorOf(thrown, request);
    if (error.status >= 500)
      this.#report('request failed', {
        requestId: request.requestId,
        status: error.status,
        code: error.code,
        error: describe(thrown),
      });
    if (response.headersSent) {
      response.destroy();
      return;
    }
    writeError(response, error);
  }
}

export function writeError(response: Response, error: ApiError): void {
  // Clients of OpenAI retry by status; what cannot succeed by waiting says so.
  const canRetry = error.retryAfterS !== null || error.status >= 500;
  response.setHeader('x-should-retry', canRetry ? 'true' : 'false');
  if (error.retryAfterS !== null) {
    response.setHeader('retry-after', String(Math.ceil(error.retryAfterS)));
    response.setHeader('retry-after-ms', String(Math.ceil(error.retryAfterS * 1_000)));
  }
  response.status(error.status).json(error.body());
}

/** What the requester is told of something thrown. */
export function apiErrorOf(thrown: unknown, request: { readonly method: string; readonly path: string }): ApiError {
  if (thrown instanceof ApiError) return thrown;
  if (thrown instanceof ObjectMissing) {
    return new ApiError({
      status: 404,
      type: 'invalid_request_error',
      code: 'content_gone',
      message: 'The content of this file is not stored any more.',
    });
  }
  if (thrown instanceof ObjectStoreFull || isDiskFull(thrown)) return storageFull('there is no room left for this');
  if (thrown instanceof StoreAway) return databaseAway();
  return (
    textError(thrown) ??
    bodyError(thrown) ??
    httpError(thrown, request) ??
    new ApiError({
      status: 500,
      type: 'server_error',
      code: 'internal_error',
      message: 'The coordinator failed at this request. It is safe to send it again.',
    })
  );
}

/** A disk that filled up below us, or below PostgreSQL (53100). */
function isDiskFull(thrown: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', '53100'].includes(codeOf(thrown) ?? '');
}

function databaseAway(): ApiError {
  return new ApiError({
    status: 503,
    type: 'server_error',
    code: 'temporarily_unavailable',
    message: 'The coordinator is short of its database for a moment. It is safe to send the request again.',
    retryAfterS: AWAY_RETRY_S,
  });
}

function codeOf(thrown: unknown): string | null {
  return typeof thrown === 'object' && thrown !== null && 'code' in thrown && typeof thrown.code === 'string'
    ? thrown.code
    : null;
}

/** A NUL or a broken surrogate pair in an id or a cursor: PostgreSQL stores neither, so nothing has such a name. */
function textError(thrown: unknown): ApiError | null {
  const code = codeOf(thrown);
  if (code !== '22021' && code !== '22P05') return null;
  return invalidRequest(
    'invalid_value',
    'The request holds text that cannot be stored: NUL, or half of a surrogate pair.',
  );
}

function tooLarge(): ApiError {
  return new ApiError({
    status: 413,
    type: 'invalid_request_error',
    code: 'request_too_large',
    message: 'The body is larger than this route takes. Upload files, or send fewer inputs at once.',
  });
}

/** What express's body parsers throw. */
function bodyError(thrown: unknown): ApiError | null {
  const type =
    typeof thrown === 'object' && thrown !== null && 'type' in thrown && typeof thrown.type === 'string'
      ? thrown.type
      : null;
  if (type === 'entity.too.large') return tooLarge();
  if (type === 'entity.parse.failed') return invalidRequest('invalid_json', 'The body is not valid JSON.');
  if (type === 'encoding.unsupported' || type === 'charset.unsupported') {
    return new ApiError({
      status: 415,
      type: 'invalid_request_error',
      code: 'unsupported_encoding',
      message: 'Send the body as UTF-8, plain or with gzip, deflate or br.',
    });
  }
  if (type === 'request.aborted' || type === 'request.size.invalid')
    return invalidRequest('incomplete_body', 'The body ended early.');
  return null;
}

/** What Nest and express throw by themselves. */
function httpError(thrown: unknown, request: { readonly method: string; readonly path: string }): ApiError | null {
  const status = thrown instanceof HttpException ? thrown.getStatus() : statusOf(thrown);
  if (status === 404) {
    return new ApiError({
      status,
      type: 'invalid_request_error',
      code: 'unknown_url',
      message: `Unknown request URL: ${request.method} ${request.path.slice(0, 200)}.`,
    });
  }
  if (status === 413) return tooLarge();
  // Body parsers of Nest's adapter wrap a SyntaxError into a plain 400.
  if (status === 400) return invalidRequest('invalid_json', 'The body is not valid JSON, or the URL is malformed.');
  if (status === null || status >= 500) return null;
  return new ApiError({
    status,
    type: 'invalid_request_error',
    code: 'bad_request',
    message: `The request was refused with status ${status}.`,
  });
}

function statusOf(thrown: unknown): number | null {
  return typeof thrown === 'object' && thrown !== null && 'status' in thrown && typeof thrown.status === 'number'
    ? thrown.status
    : null;
}

/** Name and place of a bug; messages of our own errors carry ids and counts, those of others may carry data and are cut. */
function describe(thrown: unknown): string {
  const error = thrown instanceof ApiError && thrown.cause instanceof Error ? thrown.cause : thrown;
  return error instanceof Error
    ? `${error.name}: ${error.message.slice(0, 300)}\n${(error.stack ?? '').split('\n').slice(1, 6).join('\n')}`
    : typeof error;
}
