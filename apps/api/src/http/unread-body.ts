import type { NextFunction, Request, Response } from 'express';
import type { ApiRequest } from './api-request.ts';

/** Clients that send all of a body before they look at the answer get to see it if the body is no larger than this. */
const LINGER_BYTES = 1_048_576;
/** And no slower. */
const LINGER_MS = 5_000;

/**
 * What becomes of a body that nobody read when its request was answered. Node reads and drops it, so that the connection
 * can go on: right for a caller, whose key we know, and an offer of free traffic to everybody else. A stranger's is dropped
 * for {@link LINGER_BYTES}, then the connection is cut.
 */
export function cutUnreadBodies(request: Request, response: Response, next: NextFunction): void {
  // Before 'finish', where Node would begin to drop the body by itself, without telling anybody how much came.
  response.once('prefinish', () => {
    const { socket } = request;
    if (request.complete || socket.destroyed || (request as ApiRequest).caller !== undefined) return;
    const cut = (): void => {
      if (!request.complete) socket.destroy();
    };
    const timer = setTimeout(cut, LINGER_MS).unref();
    request.once('close', () => clearTimeout(timer));
    let dropped = 0;
    request.on('data', (chunk: Buffer) => {
      dropped += chunk.length;
      if (dropped > LINGER_BYTES) cut();
    });
    request.read(0);
  });
  next();
}
