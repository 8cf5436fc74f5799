import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';

const waiting = new WeakSet<IncomingMessage>();

/**
 * Clients that say `Expect: 100-continue` hold a large body back until they are told to go on. Node tells everybody at once;
 * here they are told by {@link continueBody}, when somebody is about to read: a refusal then costs no transfer at all.
 */
export function continueWhenRead(server: Server): void {
  const serve = server.listeners('request') as RequestListener[];
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse & { req: IncomingMessage }) => {
    waiting.add(request);
    for (const listener of serve) listener.call(server, request, response);
  });
}

/** Called by whoever reads a body, before the first byte. */
export function continueBody(request: IncomingMessage, response: ServerResponse): void {
  if (waiting.delete(request)) response.writeContinue();
}
