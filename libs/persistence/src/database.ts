import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { DataSource, type QueryRunner } from 'typeorm';
import { StoreAway } from '@freehold/market';
import { arrayLiteral } from './array-literals.ts';
import { isInBackground, Turns } from './background.ts';
import { CommitUnknownError, isConflict, isConnectionLoss } from './database-errors.ts';
import { migrationClasses } from './migrations.ts';
import { Ears } from './ears.ts';
import { StatementNames } from './statement-names.ts';

/** Something that answers SQL: the {@link Database} itself, or one open transaction of it. */
export interface Sql {
  /** Rows as pg gives them: int8 and numeric are strings (bigint money stays exact), bytea is a Buffer, timestamptz a Date. */
  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
}

/** A connection of its own: what lives as long as a connection does (advisory locks) ends with it. */
export interface Session extends Sql {
  release(): Promise<void>;
}

/** Ends a session that held advisory locks. Where its connection is gone already, so are they. */
export async function releaseWithLocks(session: Session): Promise<void> {
  try {
    await session.query('SELECT pg_advisory_unlock_all()', []);
  } catch (error) {
    if (!isConnectionLoss(error)) throw error;
  } finally {
    await session.release();
  }
}

export type Isolation = 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE';

export interface TransactionOptions {
  /** READ COMMITTED when absent: every move of ours is a compare-and-set, which needs no more. */
  readonly isolation?: Isolation;
  /** Waits for the disk at COMMIT though the server may run with synchronous_commit=off. Money and acceptances say true. */
  readonly durable?: boolean;
}

export interface DatabaseOptions {
  readonly url: string;
  readonly poolSize?: number;
  /** Shown in pg_stat_activity: which process holds that lock? */
  readonly applicationName?: string;
  readonly statementTimeoutMs?: number;
  readonly lockTimeoutMs?: number;
  /** How long `openDatabase`, and a query that finds no server, wait for one that is starting. */
  readonly reconnectMs?: number;
}

/** Enough for a process whose handlers each hold one connection for a few milliseconds; 5 processes stay below Postgres' default of 100. */
const POOL_SIZE = 10;
/** Of the connections for what nobody waits for: a burst of verdicts once held all of them, and placements stood in line. */
const BACKGROUND_SHARE = 0.4;
/** pg drops idle connections after 10 s; a new one costs a chat its handshake and every plan: two minutes outlast most pauses. */
const IDLE_CONNECTION_MS = 120_000;
/** The heaviest statement of the house (COPY of a batch's rows, acceptance of a lease) takes well below 1 s. */
const STATEMENT_TIMEOUT_MS = 15_000;
const LOCK_TIMEOUT_MS = 5_000;
/** No network call happens inside a transaction, so one that idles belongs to a process that is stopped or dead. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** A Postgres killed hard recovers in 1–3 s on the devnet's data. */
const RECONNECT_MS = 15_000;
const RETRY_DELAY_MAX_MS = 500;
const CONFLICT_ATTEMPTS = 8;
const CONFLICT_DELAY_BASE_MS = 5;

/** pool.on('error') misses clients that are checked out: without a listener of its own, a lost connection ends the process. */
class GuardedPool extends pg.Pool {
  constructor(config?: pg.PoolConfig) {
    super(config);
    // The query under way rejects with the same error, and an idle client is dropped by the pool: nothing more is to be done.
    this.on('connect', (client) => client.on('error', () => undefined));
  }
}

/**
 * PostgreSQL, the truth. A thin layer over TypeORM's DataSource (migrations, pool) that speaks SQL.
 *
 * Survives a server that is killed hard: a query that finds no server waits for it (bounded); a transaction whose
 * connection is lost before COMMIT was sent is done again; after that only the caller can know, see {@link CommitUnknownError}.
 */
export class Database implements Sql {
  readonly dataSource: DataSource;
  readonly #reconnectMs: number;
  readonly #background: Turns;

  constructor(dataSource: DataSource, reconnectMs: number, backgroundMax: number) {
    this.dataSource = dataSource;
    this.#reconnectMs = reconnectMs;
    this.#background = new Turns(backgroundMax);
  }

  /** One statement, committed by itself. Done again only where the server never saw it, or rolled it back in a deadlock. */
  async query<Row = Record<string, unknown>>(sql: string, params: readonly unknown[] = []): Promise<Row[]> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#lend((runner) => ask<Row>(runner, sql, params));
      } catch (error) {
        if (!isConflict(error) || attempt >= CONFLICT_ATTEMPTS) throw named(error);
      }
      await conflictPause(attempt);
    }
  }

  /**
   * All of `work`, or nothing. `work` runs again from the start after a deadlock, a serialization failure, or a
   * connection lost before COMMIT: it must do nothing but SQL on the handle it is given.
   */
  async transaction<T>(work: (tx: Sql) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    const until = performance.now() + this.#reconnectMs;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#attempt(work, options);
      } catch (error) {
        if (isConflict(error) && attempt < CONFLICT_ATTEMPTS) {
          await conflictPause(attempt);
        } else if (!(error instanceof CommitUnknownError) && isConnectionLoss(error) && performance.now() < until) {
          await sleep(Math.random() * RETRY_DELAY_MAX_MS);
        } else {
          throw named(error);
        }
      }
    }
  }

  /** One connection of the pool until it is released. Nothing is done again on it: its end is news. */
  async session(): Promise<Session> {
    const runner = await this.#connected();
    return { query: (sql, params) => ask(runner, sql, params ?? []), release: () => runner.release() };
  }

  /**
   * Hears what is notified on a channel, on a connection of its own. One that is lost is replaced; what was said meanwhile is not heard.
   */
  async listen(channel: string, hear: (payload: string) => void): Promise<{ close(): Promise<void> }> {
    const ears = new Ears(() => this.#connected(), channel, hear);
    await ears.open();
    return ears;
  }

  async close(): Promise<void> {
    if (this.dataSource.isInitialized) await this.dataSource.destroy();
  }

  #attempt<T>(work: (tx: Sql) => Promise<T>, options: TransactionOptions): Promise<T> {
    return this.#lend(async (runner) => {
      let committing = false;
      try {
        const begin = `BEGIN ISOLATION LEVEL ${options.isolation ?? 'READ COMMITTED'}`;
        await ask(runner, options.durable === true ? `${begin}; SET LOCAL synchronous_commit = on` : begin, []);
        const result = await work({ query: (sql, params) => ask(runner, sql, params ?? []) });
        committing = true;
        await ask(runner, 'COMMIT', []);
        return result;
      } catch (error) {
        if (committing && isConnectionLoss(error)) throw new CommitUnknownError(error);
        await rollBack(runner);
        throw error;
      }
    });
  }

  /** A connection for as long as `use` takes; in the background when one of those is free. */
  #lend<T>(use: (runner: QueryRunner) => Promise<T>): Promise<T> {
    const lend = async (): Promise<T> => {
      const runner = await this.#connected();
      try {
        return await use(runner);
      } finally {
        await runner.release();
      }
    };
    return isInBackground() ? this.#background.take(lend) : lend();
  }

  /** A connection, waiting (bounded) for a server that is away: nothing was sent yet, so trying again is always safe. */
  async #connected(): Promise<QueryRunner> {
    const until = performance.now() + this.#reconnectMs;
    for (;;) {
      const runner = this.dataSource.createQueryRunner();
      try {
        await runner.connect();
        return runner;
      } catch (error) {
        await runner.release();
        if (!isConnectionLoss(error) || performance.now() >= until) throw named(error);
        await sleep(Math.random() * RETRY_DELAY_MAX_MS);
      }
    }
  }
}

/** A lost connection by the market's name for it: only here is it known that it was the database's. */
function named(error: unknown): unknown {
  const isNamed = error instanceof StoreAway || error instanceof CommitUnknownError;
  return !isNamed && isConnectionLoss(error) ? new StoreAway(error) : error;
}

/** Connects, and waits (bounded) for a server that is only starting. Migrations are a step of their own: `migrate`. */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const reconnectMs = options.reconnectMs ?? RECONNECT_MS;
  const until = performance.now() + reconnectMs;
  for (;;) {
    const dataSource = new DataSource({
      type: 'postgres',
      url: options.url,
      driver: { ...pg, Pool: GuardedPool },
      applicationName: options.applicationName ?? 'freehold',
      poolSize: options.poolSize ?? POOL_SIZE,
      connectTimeoutMS: CONNECT_TIMEOUT_MS,
      installExtensions: false,
      synchronize: false,
      logging: false,
      migrations: migrationClasses(),
      migrationsTableName: 'migration',
      poolErrorHandler: () => undefined,
      extra: {
        keepAlive: true,
        idleTimeoutMillis: IDLE_CONNECTION_MS,
        statement_timeout: options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS,
        lock_timeout: options.lockTimeoutMs ?? LOCK_TIMEOUT_MS,
        idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
      },
    });
    try {
      await dataSource.initialize();
      return new Database(dataSource, reconnectMs, backgroundMax(options.poolSize ?? POOL_SIZE));
    } catch (error) {
      if (!isConnectionLoss(error) || performance.now() >= until) throw error;
      await sleep(Math.random() * RETRY_DELAY_MAX_MS);
    }
  }
}

/** Two acceptances may wait for locks: somebody else's turn comes all the same. */
function backgroundMax(poolSize: number): number {
  return Math.max(3, Math.floor(poolSize * BACKGROUND_SHARE));
}

/** Full jitter: whoever met in a deadlock should not meet again. */
function conflictPause(attempt: number): Promise<void> {
  return sleep(Math.random() * CONFLICT_DELAY_BASE_MS * 2 ** attempt);
}

const NAMES = new StatementNames();

/**
 * Past TypeORM's own `query`: it knows no named statements, and wraps errors in one that carries every parameter, where the
 * driver's has the SQLSTATE and no payload. What has no parameters (BEGIN, COMMIT, a migration) is sent as it is.
 */
async function ask<Row>(runner: QueryRunner, sql: string, params: readonly unknown[]): Promise<Row[]> {
  const client = (await runner.connect()) as pg.PoolClient;
  const name = params.length === 0 ? undefined : NAMES.of(sql);
  const values = params.map((value) => (Array.isArray(value) ? arrayLiteral(value) : value));
  const result = await client.query({ ...(name === undefined ? {} : { name }), text: sql, values });
  return result.rows as Row[];
}

async function rollBack(runner: QueryRunner): Promise<void> {
  try {
    await ask(runner, 'ROLLBACK', []);
  } catch (error) {
    // No connection, no transaction: the server rolls back by itself. Anything else is a bug.
    if (!isConnectionLoss(error)) throw error;
  }
}
