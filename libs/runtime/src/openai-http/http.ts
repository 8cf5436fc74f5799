import { EngineError } from '@freehold/market';

/** A vector of 3,072 floats in JSON takes 60 kB; a row of 2,048 of them is refused by size before it fills the memory. */
export const RESPONSE_BYTES_MAX = 64 * 1024 * 1024;
/** Model lists and properties. */
export const PROBE_BYTES_MAX = 4 * 1024 * 1024;
const ERROR_BYTES_MAX = 16 * 1024;

export interface Server {
  /** Scheme, host, port and path prefix, without `/v1` and without a slash at the end. */
  readonly root: string;
  readonly apiKey?: string | undefined;
}

/** An answer outside 2xx, with what the server said. */
export class HttpRefusal extends Error {
  override readonly name = 'HttpRefusal';
  readonly status: number;
  readonly body: string;
  constructor(status: number, body: string) {
    super(`HTTP ${status}: ${body.slice(0, 512)}`);
    this.status = status;
    this.body = body;
  }
}

/** `http://host:8000/v1/` → `http://host:8000`. @throws {EngineError} When it is no http(s) URL. */
export function serverRoot(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^https?:$/u.test(parsed.protocol)) {
    throw new EngineError('engine_url', `${url} is no engine URL: expected http://HOST:PORT or https://HOST.`, false);
  }
  return `${parsed.origin}${parsed.pathname.replace(/\/+$/u, '').replace(/\/v\d$/u, '')}`;
}

/**
 * Sends one request and hands out its body as it comes.
 *
 * Redirects are refused: an engine has no reason to send a node, and the prompts it carries, elsewhere.
 *
 * @throws {HttpRefusal} Outside 2xx. @throws {EngineError} When the server cannot be reached or the signal fires.
 */
export async function request(server: Server, path: string, body: unknown, signal: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { accept: 'application/json, text/event-stream' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (server.apiKey !== undefined) headers['authorization'] = `Bearer ${server.apiKey}`;
  const init = body === undefined ? { method: 'GET' } : { method: 'POST', body: JSON.stringify(body) };
  let response: Response;
  try {
    response = await fetch(`${server.root}${path}`, { ...init, headers, redirect: 'error', signal });
  } catch (error) {
    throw unreachable(server, error, signal);
  }
  if (response.ok) return response;
  throw new HttpRefusal(response.status, await text(response, ERROR_BYTES_MAX, signal, server));
}

export async function getJson(server: Server, path: string, signal: AbortSignal): Promise<unknown> {
  const response = await request(server, path, undefined, signal);
  return parsed(await text(response, PROBE_BYTES_MAX, signal, server));
}

export async function postJson(server: Server, path: string, body: unknown, signal: AbortSignal): Promise<unknown> {
  const response = await request(server, path, body, signal);
  return parsed(await text(response, RESPONSE_BYTES_MAX, signal, server));
}

/** The body in pieces of text, cut off by an error beyond `bytesMax`. */
export async function* textOfBody(
  response: Response,
  bytesMax: number,
  signal: AbortSignal,
  server: Server,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let bytes = 0;
  try {
    for await (const chunk of response.body ?? []) {
      bytes += (chunk as Uint8Array).length;
      if (bytes > bytesMax)
        throw new EngineError('response_too_large', `The engine sent more than ${bytesMax} bytes.`, true);
      yield decoder.decode(chunk as Uint8Array, { stream: true });
    }
    yield decoder.decode();
  } catch (error) {
    throw error instanceof EngineError ? error : unreachable(server, error, signal);
  }
}

async function text(response: Response, bytesMax: number, signal: AbortSignal, server: Server): Promise<string> {
  let whole = '';
  for await (const piece of textOfBody(response, bytesMax, signal, server)) whole += piece;
  return whole;
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw new EngineError('engine_broken', `The engine answered no JSON: ${body.slice(0, 128)}`, true);
  }
}

function unreachable(server: Server, error: unknown, signal: AbortSignal): EngineError {
  if (signal.aborted) {
    const late = (signal.reason as { readonly name?: unknown } | undefined)?.name === 'TimeoutError';
    return late
      ? new EngineError('engine_timeout', 'The engine did not answer in time.', true)
      : new EngineError('aborted', 'The call was cancelled.', true);
  }
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
  return new EngineError('engine_unreachable', `${server.root}: ${cause}`, true);
}
