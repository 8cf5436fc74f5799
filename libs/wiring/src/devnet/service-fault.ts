/** A service of one's own that does not do: one line saying which variable, what was tried, what came, what to do. */
export class ServiceFault extends Error {
  readonly variable: ServiceVariable;

  constructor(variable: ServiceVariable, tried: string, came: string, advice: string) {
    super(`${variable}: tried ${tried}; ${came}. ${advice}`);
    this.name = 'ServiceFault';
    this.variable = variable;
  }
}

export type ServiceVariable = 'DATABASE_URL' | 'REDIS_URL' | 'RPC_URL';

/** The URL without what must not be on a screen: a password, and what stands in queries and paths of RPC endpoints. */
export function shownUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null) return 'what is no URL';
  const user = parsed.username === '' ? '' : `${parsed.username}@`;
  const path = parsed.protocol.startsWith('http') ? '' : parsed.pathname.replace(/^\/$/, '');
  return `${parsed.protocol}//${user}${parsed.host}${path}`;
}

interface Coded {
  readonly code?: unknown;
  readonly syscall?: unknown;
  readonly message?: unknown;
  readonly cause?: unknown;
  readonly driverError?: unknown;
  readonly errors?: readonly unknown[];
}

/** Of a Unix socket; said of anything else, these are about files. */
const SOCKET_CODES: Readonly<Record<string, string>> = { ENOENT: 'no socket', EACCES: 'closed socket' };

/** What a socket says, in words; null when the error is about something else. */
export function networkFault(error: unknown, host: string): { readonly came: string; readonly advice: string } | null {
  const [code] = codesWithin(error);
  switch (code) {
    case 'ECONNREFUSED':
      return { came: `nothing listens at ${host} (ECONNREFUSED)`, advice: 'Start the service there' };
    case 'no socket':
      return { came: `nothing listens at ${host} (ENOENT)`, advice: 'Start the service there' };
    case 'closed socket':
      return { came: `this user may not enter ${host} (EACCES)`, advice: 'Run it as the user of the service' };
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return { came: `the host of ${host} is not known (${code})`, advice: 'Correct the host name' };
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'TimeoutError':
      return { came: `no answer came from ${host} (${code})`, advice: 'Check address, port and firewall' };
    case 'ECONNRESET':
    case 'EPIPE':
    case 'UND_ERR_SOCKET':
      return {
        came: `${host} hung up (${code})`,
        advice: 'Check that this very service listens there, with or without TLS as the URL says',
      };
    default:
      return null;
  }
}

/**
 * The codes within an error, outermost first. Errors of sockets hide in causes (fetch), in `driverError` (TypeORM) and in lists
 * (a name with two addresses).
 */
export function codesWithin(error: unknown): readonly string[] {
  if (typeof error !== 'object' || error === null) return [];
  const { code, cause, driverError, errors, syscall } = error as Coded;
  const own = typeof code === 'string' ? [(syscall === 'connect' ? SOCKET_CODES[code] : undefined) ?? code] : [];
  const timedOut = own.length === 0 && (error as { name?: unknown }).name === 'TimeoutError' ? ['TimeoutError'] : [];
  const inner: readonly unknown[] = [cause, driverError, ...(Array.isArray(errors) ? (errors as unknown[]) : [])];
  return [...own, ...timedOut, ...inner.flatMap(codesWithin)];
}

export function hostOf(url: URL, port: number): string {
  const folder = url.searchParams.get('host');
  return `${folder?.startsWith('/') === true ? folder : url.hostname}:${url.port === '' ? port : url.port}`;
}

/** Why a database cannot be used, from what it or its socket said. `rest` closes the advice. */
export function databaseFault(text: string, error: unknown, rest: string): ServiceFault {
  const url = new URL(text);
  const { came, advice } = networkFault(error, hostOf(url, 5_432)) ?? serverFault(error, url);
  return new ServiceFault('DATABASE_URL', `to connect to ${shownUrl(text)}`, came, `${advice}${rest}`);
}

function serverFault(error: unknown, url: URL): { readonly came: string; readonly advice: string } {
  const { message } = error as { message?: string };
  const [code] = codesWithin(error);
  if (code === '28P01' || code === '28000')
    return { came: `the server refused the user or its password (${code})`, advice: 'Give the right ones in the URL' };
  if (code === '3D000')
    return {
      came: `it has no database '${decodeURIComponent(url.pathname.slice(1))}' (${code})`,
      advice: 'Create it (createdb)',
    };
  if (code === '42P01')
    return {
      came: `that database holds no Freehold schema (${code})`,
      advice: 'Let `npm start` with this DATABASE_URL lay it out',
    };
  if (/timeout/i.test(message ?? '')) return { came: 'no answer came in time', advice: 'Check it' };
  return { came: `${message ?? String(error)}${code === undefined ? '' : ` (${code})`}`, advice: 'Look into its log' };
}
