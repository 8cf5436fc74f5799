import type { NextFunction, Request, Response } from 'express';
import type { ApiRequest } from './api-request.ts';

/** Clients that send all of a body before they look at the answer get to see it if the body is no larger than this. */
const LINGER_BYTES = 1_048_576;
/** And no slower. */
const LINGER_MS = 5_000;
const LOOK_EVERY_MS = 100;

/**
 * What becomes of a body that nobody read when its request was answered. Node reads and drops it, so that the connection
 * can go on: right for a caller, whose key we know, and an offer of free traffic to everybody else. A stranger's is dropped
 * for {@link LINGER_BYTES}, then the connection is cut.
 */
export function cutUnreadBodies(request: Request, response: Response, next: NextFunction): void {
  response.once('finish', () => {
    const { socket } = request;
    if (request.complete || socket.destroyed || (request as ApiRequest).caller !== undefined) return;
    const readBefore = socket.bytesRead;
    const until = performance.now() + LINGER_MS;
    const watch = setInterval(() => {
      const isOver = request.complete || socket.destroyed;
      if (!isOver && socket.bytesRead - readBefore <= LINGER_BYTES && performance.now() < until) return;
      clearInterval(watch);
      if (!isOver) socket.destroy();
    }, LOOK_EVERY_MS);
    watch.unref();
  });
  next();
}
