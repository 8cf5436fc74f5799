import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openDatabase, runDoctor, type Database, type DoctorReport } from '@freehold/persistence';
import { startPostgres, type EmbeddedPostgres } from './embedded/index.ts';
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

/** Every check that the reached market's surroundings allow. */
export function examine(market: ReachedMarket): Promise<Examination> {
  return runDoctor(market.database);
}
