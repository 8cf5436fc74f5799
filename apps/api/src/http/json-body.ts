import { createHash } from 'node:crypto';
import {
  Injectable,
  SetMetadata,
  type CallHandler,
  type CustomDecorator,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import express, { type Request, type Response } from 'express';
import type { Observable } from 'rxjs';
import { ApiError, invalidRequest, isTooDeep, JSON_DEPTH_MAX } from '@freehold/protocol';
import type { ApiRequest } from './api-request.ts';
import { continueBody } from './continue-body.ts';
import { unsupportedContentType } from './content-type.ts';

/** 1 MiB of text, as JSON may write it (`\u00e9` for two bytes), and its surroundings. */
const JSON_BYTES_MAX = 8 * 1_048_576;
const TAKES_JSON = 'freehold:json-body';

/** A route that reads a JSON body. All others leave the body where it is. */
export function TakesJson(): CustomDecorator {
  return SetMetadata(TAKES_JSON, true);
}

/**
 * Reads JSON bodies, with a limit, hashed as they came: by that a repeated request is recognised. An interceptor, because
 * it comes after the guard: nothing of a stranger's body is read, let alone parsed.
 */
@Injectable()
export class JsonBodyInterceptor implements NestInterceptor {
  readonly #reflector: Reflector;

  constructor(reflector: Reflector) {
    this.#reflector = reflector;
  }

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    if (this.#reflector.get<boolean | undefined>(TAKES_JSON, context.getHandler()) === true) {
      const http = context.switchToHttp();
      await readJson(http.getRequest<ApiRequest>(), http.getResponse<Response>());
    }
    return next.handle();
  }
}

const parse = express.json({
  limit: JSON_BYTES_MAX,
  strict: true,
  verify: (request, _response, bytes, encoding) => {
    refuseUnreadable(bytes, encoding);
    (request as ApiRequest).bodyHash = createHash('sha256').update(bytes).digest();
  },
});

async function readJson(request: ApiRequest, response: Response): Promise<void> {
  if (request.header('transfer-encoding') === undefined && Number(request.header('content-length') ?? 0) === 0)
    throw invalidRequest('missing_required_parameter', 'This request needs a JSON object as its body; none came.');
  if (!isJson(request)) throw unsupportedContentType('application/json', request.header('content-type'));
  continueBody(request, response);
  await new Promise<void>((resolve, reject) => {
    parse(request, response, (error?: unknown) => {
      if (error === undefined) resolve();
      else reject(error instanceof UnreadableBody ? error.answer : (error as Error));
    });
  });
}

function isJson(request: Request): boolean {
  return request.is('application/json') !== false;
}

/** Carries an answer through express's parser, which gives every error a status of its own. */
class UnreadableBody extends Error {
  readonly answer: ApiError;
  constructor(answer: ApiError) {
    super(answer.message);
    this.answer = answer;
  }
}

/** Before it is parsed: what would take the parser seconds, and other encodings, in which that cannot be seen. */
function refuseUnreadable(bytes: Buffer, encoding: string): void {
  if (encoding !== 'utf-8')
    throw new UnreadableBody(
      new ApiError({
        status: 415,
        type: 'invalid_request_error',
        code: 'unsupported_encoding',
        message: 'Send the body as UTF-8.',
      }),
    );
  if (isTooDeep(bytes.toString('utf8')))
    throw new UnreadableBody(
      invalidRequest(
        'invalid_json',
        `The body nests lists or objects too deep: at most ${JSON_DEPTH_MAX} levels are read.`,
      ),
    );
}
