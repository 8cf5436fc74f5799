import { createHash } from 'node:crypto';
import type { Server } from 'node:http';
import type { INestApplication, DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import express, { type NextFunction, type Request, type Response } from 'express';
import { ApiModule } from './api.module.ts';
import { ApiError, invalidRequest, isTooDeep, JSON_DEPTH_MAX } from '@freehold/protocol';
import type { ApiRequest } from './http/api-request.ts';
import { ErrorFilter } from './http/error.filter.ts';
import { ApiMetrics } from './http/metrics.ts';
import { requestId } from './http/request-id.ts';
import type { Reporter } from './openai/inference.ts';
import type { ApiSettings } from './settings.ts';

/** 1 MiB of text, as JSON may write it (`\u00e9` for two bytes), and its surroundings. */
const JSON_BYTES_MAX = 8 * 1_048_576;
/** A client that sends its headers more slowly than this is not one. */
const HEADERS_MS = 20_000;
/** 512 MB over a slow line; a stalled one ends. */
const REQUEST_MS = 30 * 60_000;
const KEEP_ALIVE_MS = 75_000;

/** The api over its ports, ready to `listen`. */
export async function createApi(
  ports: DynamicModule,
  settings: ApiSettings,
  reporter: Reporter,
): Promise<INestApplication<Server>> {
  const app = await NestFactory.create<INestApplication<Server>>(
    ApiModule.over(ports, settings, reporter),
    new ExpressAdapter(),
    {
      bodyParser: false,
      logger: ['error', 'fatal'],
      abortOnError: false,
    },
  );
  const http: unknown = app.getHttpAdapter().getInstance();
  (http as express.Express)
    .disable('x-powered-by')
    .disable('etag')
    .set('query parser', 'simple')
    .set('trust proxy', false);
  app.use(requestId);
  app.use(requestLog(reporter));
  app.use(app.get(ApiMetrics).middleware);
  app.use(jsonBody());
  app.useGlobalFilters(new ErrorFilter((what, facts) => reporter.report(what, facts)));
  const server = app.getHttpServer();
  server.headersTimeout = HEADERS_MS;
  server.requestTimeout = REQUEST_MS;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  return app;
}

/** JSON bodies with a limit, hashed as they came: by that a repeated request is recognised. Everything else is left unread. */
function jsonBody(): (request: Request, response: Response, next: NextFunction) => void {
  const parse = express.json({
    limit: JSON_BYTES_MAX,
    strict: true,
    verify: (request, _response, bytes, encoding) => {
      refuseUnreadable(bytes, encoding);
      (request as ApiRequest).bodyHash = createHash('sha256').update(bytes).digest();
    },
  });
  return (request, response, next) =>
    parse(request, response, (error?: unknown) => next(error instanceof UnreadableBody ? error.answer : error));
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

/** Method, path, status and time. Never a query, a body, or a header. */
function requestLog(reporter: Reporter): (request: Request, response: Response, next: NextFunction) => void {
  return (request, response, next) => {
    const startedMs = performance.now();
    response.once('close', () => {
      const { caller, requestId: id } = request as ApiRequest;
      reporter.request({
        requestId: id,
        method: request.method,
        path: request.path.slice(0, 200),
        status: response.statusCode,
        complete: response.writableFinished,
        ms: Math.round(performance.now() - startedMs),
        org: caller?.orgId ?? null,
        key: caller?.id ?? null,
      });
    });
    next();
  };
}
