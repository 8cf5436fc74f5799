import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EscrowClient } from '@freehold/chain';
import { chainFacts, type ChainFacts } from '@freehold/market';
import {
  openDatabase,
  PgChainHistory,
  PgChainTransactions,
  runDoctor,
  type Database,
  type DoctorReport,
} from '@freehold/persistence';
import { startPostgres, type EmbeddedPostgres } from './embedded/index.ts';
import { readRequester } from './devnet/requester-file.ts';
import { readMarketRecord, type MarketRecord } from './market-record.ts';

/** How long a command waits for a database that its record names, before it takes it for stopped. */
const REACH_MS = 1_500;

export interface ReachedMarket {
  readonly database: Database;
  readonly record: MarketRecord | null;
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
  if (given !== undefined && given !== '') return reached(await open(given), record, null);
  if (record !== null) {
    const running = await open(record.databaseUrl, REACH_MS).catch(() => null);
    if (running !== null) return reached(running, record, null);
  }
  const postgresDir = join(dataDir, 'postgres');
  if (!existsSync(postgresDir)) throw new NoMarketError(dataDir);
  const postgres = await startPostgres({ dataDir: postgresDir });
  return reached(await open(postgres.url), record, postgres);
}

function open(url: string, reconnectMs?: number): Promise<Database> {
  return openDatabase({
    url,
    poolSize: 2,
    applicationName: 'freehold-operator',
    ...(reconnectMs === undefined ? {} : { reconnectMs }),
  });
}

function reached(database: Database, record: MarketRecord | null, postgres: EmbeddedPostgres | null): ReachedMarket {
  return {
    database,
    record,
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

export type Examination = DoctorReport;

/** The ledger may move while the chain is read: then both are read again, so often. */
const EXAMINATIONS_MAX = 5;

/** Every check that the reached market's surroundings allow; those about the chain when its endpoint answers. */
export async function examine(market: ReachedMarket): Promise<Examination> {
  for (let attempt = 1; ; attempt += 1) {
    const facts = await chainFactsOf(market);
    if (facts === null || facts.block === null) return runDoctor(market.database);
    const { escrowBalance, unconfirmed } = facts;
    const report = await runDoctor(market.database, { chain: { escrowBalance, unconfirmed } });
    const after = await chainFactsOf(market);
    if (report.violations.length === 0 || after?.escrowBalance === escrowBalance || attempt === EXAMINATIONS_MAX)
      return report;
  }
}

/** Null when the market is stopped or its chain does not answer: then nothing is said about the chain. */
async function chainFactsOf(market: ReachedMarket): Promise<ChainFacts | null> {
  const { record, database } = market;
  if (record === null || market.wasStopped) return null;
  const { escrow: address, book } = record.contracts;
  const history = new PgChainHistory(database, { book, escrow: address.toLowerCase(), operatorPayer: null });
  const escrow = new EscrowClient({ rpcUrl: record.rpcUrl, escrow: address, book });
  try {
    return await chainFacts({ escrow, history, transactions: new PgChainTransactions(database), sender: '' });
  } catch (error) {
    if (error instanceof Error && error.name !== 'TypeError') return null;
    throw error;
  }
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
  const answer = await fetch(`${api.origin}${path}`, {
    headers: { authorization: `Bearer ${api.apiKey}` },
    signal: AbortSignal.timeout(ASK_MS),
  });
  const body: unknown = await answer.json();
  if (answer.ok) return body;
  const error = (body as { error?: { message?: string } }).error;
  throw new Error(error?.message ?? `${api.origin}${path} answered ${answer.status}.`);
}
