import { randomBytes } from 'node:crypto';
import type { NextFunction, Request, Response } from 'express';
import type { ApiRequest } from './api-request.ts';

/** Every answer names its request, also the refused ones: it is what people quote to us. */
export function requestId(request: Request, response: Response, next: NextFunction): void {
  const id = `req_${randomBytes(12).toString('hex')}`;
  (request as ApiRequest).requestId = id;
  response.setHeader('x-request-id', id);
  next();
}
