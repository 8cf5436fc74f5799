import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { AccountRef } from '@freehold/domain';
import { movePayouts, readStatement, type PayoutState } from '@freehold/market';
import { openDatabase, PgPayoutGate, PgStatements, type Database } from '@freehold/persistence';
import { BullWorkQueue } from '@freehold/queue';
import { startPostgres, type EmbeddedPostgres } from './embedded/index.ts';
import { readRequester } from './devnet/requester-file.ts';
import { codesWithin, networkFault } from './devnet/service-fault.ts';
import { examineBooks, type Examination } from './examine-books.ts';
import { readMarketRecord, type MarketRecord } from './market-record.ts';

/** How long a command waits for a database that its record names, before it takes it for stopped. */
const REACH_MS = 1_500;

export interface ReachedMarket {
  readonly database: Database;
  readonly record: MarketRecord | null;
  /** Where its queue is; null when that is not known. */
  readonly queueUrl: { readonly databaseUrl: string } | { readonly redisUrl: string } | null;
  /** True when the market was stopped and its database was started for this command alone. */
  readonly wasStopped: boolean;
  close(): Promise<void>;
}

/** No market was found where it was looked for. */
export class NoMarketError extends Error {
  constructor(dataDir: string) {
    super(
      `There is no market in ${dataDir}. Start one with "npm start", name its folder with --data DIR, or set DATABASE_URL.`,
    );
    this.name = 'NoMarketError';
  }
}

/**
 * The truth of a market, for an operator's command: `DATABASE_URL` if set, else the running market of the data directory,
 * else its stopped database, started for as long as the command takes.
 */
export async function reachMarket(
  dataDir: string,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<ReachedMarket> {
  const given = environment['DATABASE_URL'];
  const record = readMarketRecord(dataDir);
  const redisUrl = environment['REDIS_URL'];
  const queueAt = (databaseUrl: string): ReachedMarket['queueUrl'] =>
    redisUrl === undefined || redisUrl === '' ? { databaseUrl } : { redisUrl };
  if (given !== undefined && given !== '') return reached(await open(given), record, null, queueAt(given));
  if (record !== null) {
    const running = await open(record.databaseUrl, REACH_MS).catch(() => null);
    if (running !== null) return reached(running, record, null, queueAt(record.databaseUrl));
  }
  const postgresDir = join(dataDir, 'postgres');
  if (!existsSync(postgresDir)) throw new NoMarketError(dataDir);
  const postgres = await startPostgres({ dataDir: postgresDir });
  return reached(await open(postgres.socketUrl), record, postgres, null);
}

function open(url: string, reconnectMs?: number): Promise<Database> {
  return openDatabase({
    url,
    poolSize: 2,
    applicationName: 'freehold-operator',
    ...(reconnectMs === undefined ? {} : { reconnectMs }),
  });
}

function reached(
  database: Database,
  record: MarketRecord | null,
  postgres: EmbeddedPostgres | null,
  queueUrl: ReachedMarket['queueUrl'],
): ReachedMarket {
  return {
    database,
    record,
    queueUrl,
    wasStopped: postgres !== null,
    close: async () => {
      await database.close();
      await postgres?.stop();
    },
  };
}

export {
  auditFacts,
  jobMoney,
  nodeFacts,
  openWork,
  rowsAnswered,
  rowsDeliveredBy,
  type NodeFacts,
} from '@freehold/persistence';

export { examineBooks, type Examination } from './examine-books.ts';

/** Every check that the reached market's surroundings allow; those about chain and queue while it runs. */
export async function examine(market: ReachedMarket): Promise<Examination> {
  const { database, record, queueUrl, wasStopped } = market;
  const contracts = record === null || wasStopped ? null : record.contracts;
  const queue = wasStopped || queueUrl === null ? null : new BullWorkQueue(queueUrl);
  try {
    return await examineBooks({
      database,
      chain: contracts === null || record === null ? null : { rpcUrl: record.rpcUrl, ...contracts },
      queueEntries: async () => (queue === null ? null : await queue.entries()),
    });
  } finally {
    await queue?.close();
  }
}

/** Any account of the market's books, for the operator. */
export async function statementOf(
  market: ReachedMarket,
  account: AccountRef,
  asked: Parameters<typeof readStatement>[2],
): ReturnType<typeof readStatement> {
  return await readStatement(new PgStatements(market.database), account, asked);
}

/** The operator's hand on the payouts of a market. */
export async function payouts(market: ReachedMarket): Promise<PayoutState> {
  return await new PgPayoutGate(market.database).state();
}

/** Stops payouts until {@link resumePayouts}. */
export async function haltPayouts(market: ReachedMarket, why: string): Promise<PayoutState> {
  return await movePayouts(new PgPayoutGate(market.database), ({ accepted }) => ({
    halted: { by: 'operator', why },
    accepted,
  }));
}

/** Lets payouts run again. `accepted`: the difference (escrow − ledger) that the operator takes on; the next comparison holds it to that. */
export async function resumePayouts(market: ReachedMarket, accepted: bigint | null): Promise<PayoutState> {
  return await movePayouts(new PgPayoutGate(market.database), (before) => ({
    halted: null,
    accepted: accepted ?? before.accepted,
  }));
}

export { writeMarketRecord } from './market-record.ts';

/** Where an API answers, and with which key. */
export interface ReachedApi {
  readonly origin: string;
  readonly apiKey: string;
}

/** The API that was named, else the one of the data directory; the key that was given, else `FREEHOLD_API_KEY`, else the devnet's. */
export function reachApi(
  dataDir: string,
  given: { readonly url?: string; readonly key?: string },
  environment: NodeJS.ProcessEnv = process.env,
): ReachedApi {
  const url = given.url ?? readMarketRecord(dataDir)?.baseURL;
  if (url === undefined || url === null) throw new NoMarketError(dataDir);
  const apiKey = given.key ?? environment['FREEHOLD_API_KEY'] ?? readRequester(dataDir)?.apiKey;
  if (apiKey === undefined)
    throw new Error(`No API key for ${url}: give --key, or set FREEHOLD_API_KEY to one with the scope "market".`);
  return { origin: new URL(url).origin, apiKey };
}

/** How long a question to the API may take. */
const ASK_MS = 10_000;

/** One answer of the market's own API; its error's words where it refuses. */
export async function askMarket(api: ReachedApi, path: string): Promise<unknown> {
  const { status, text } = await fetchText(api, path).catch((error: unknown) => {
    throw noAnswer(api.origin, error);
  });
  const body = parsed(text);
  if (body === undefined)
    throw new Error(
      `Asked the market's API at ${api.origin}; it answered ${status} with what is no JSON. Check that --url names the API.`,
    );
  if (status >= 200 && status < 300) return body;
  const error = (body as { error?: { message?: string } } | null)?.error;
  throw new Error(error?.message ?? `${api.origin}${path} answered ${status}.`);
}

async function fetchText(api: ReachedApi, path: string): Promise<{ readonly status: number; readonly text: string }> {
  const answer = await fetch(`${api.origin}${path}`, {
    headers: { authorization: `Bearer ${api.apiKey}` },
    signal: AbortSignal.timeout(ASK_MS),
  });
  return { status: answer.status, text: await answer.text() };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** `fetch` hides in causes what came. Of a market that was stopped this is the usual answer, so it is said in its words. */
function noAnswer(origin: string, error: unknown): Error {
  const fault = networkFault(error, new URL(origin).host);
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const came = fault?.came ?? (cause instanceof Error ? cause.message : String(cause));
  const advice = codesWithin(error)[0] === 'ECONNREFUSED' ? NOT_RUNNING : `${fault?.advice ?? 'Check the URL'}.`;
  return new Error(`Asked the market's API at ${origin}; ${came}. ${advice}`, { cause: error });
}

const NOT_RUNNING =
  'The market is not running there: start it with "npm start", or name the API of one that is with --url URL.';
