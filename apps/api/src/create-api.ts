import type { Server } from 'node:http';
import type { INestApplication, DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import type { Express, NextFunction, Request, Response } from 'express';
import { ApiModule } from './api.module.ts';
import type { ApiRequest } from './http/api-request.ts';
import { continueWhenRead } from './http/continue-body.ts';
import { ErrorFilter } from './http/error.filter.ts';
import { ApiMetrics } from './http/metrics.ts';
import { requestId } from './http/request-id.ts';
import { cutUnreadBodies } from './http/unread-body.ts';
import type { Reporter } from './openai/inference.ts';
import type { ApiSettings } from './settings.ts';

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
  (http as Express).disable('x-powered-by').disable('etag').set('query parser', 'simple').set('trust proxy', false);
  app.use(requestId);
  app.use(requestLog(reporter));
  app.use(app.get(ApiMetrics).middleware);
  app.use(cutUnreadBodies);
  app.useGlobalFilters(new ErrorFilter((what, facts) => reporter.report(what, facts)));
  const server = app.getHttpServer();
  continueWhenRead(server);
  server.headersTimeout = HEADERS_MS;
  server.requestTimeout = REQUEST_MS;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  return app;
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
