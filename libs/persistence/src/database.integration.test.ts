import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { StoreAway } from '@freehold/market';
import { startPostgres, temporaryDatabase, testPostgres, type TestPostgres } from '@freehold/wiring/embedded';
import { marketDatabase, type MarketDatabase } from '../test/market-database.ts';
import {
  inBackground,
  inForeground,
  isUniqueViolation,
  migrate,
  migrationFiles,
  openDatabase,
  SchemaMismatchError,
} from './index.ts';

let server: TestPostgres;
beforeAll(async () => {
  server = await testPostgres();
}, 30_000);
afterAll(() => server.stop());

describe('migrations', () => {
  it('run once when three processes start together', async () => {
    const empty = await temporaryDatabase(server.url);
    const databases = await Promise.all([1, 2, 3].map(() => openDatabase({ url: empty.url })));
    const applied = await Promise.all(databases.map((database) => migrate(database)));
    expect(applied.flat().sort()).toEqual(migrationFiles().map(({ file }) => file));
    await Promise.all(databases.map((database) => database.close()));
    await empty.drop();
  }, 30_000);

  it('refuse a database of newer code, and a file that was rewritten after it ran, and say what to do', async () => {
    const empty = await temporaryDatabase(server.url);
    const database = await openDatabase({ url: empty.url });
    await migrate(database);
    await database.query(`UPDATE coordinator SET value = '"0000"' WHERE key = 'migration:0001'`);
    await expect(migrate(database)).rejects.toThrow(/0001-market.sql was changed after it ran/);
    await database.query(`INSERT INTO migration (timestamp, name) VALUES (9999, 'future-0000000009999')`);
    const refused = await migrate(database).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(SchemaMismatchError);
    expect((refused as SchemaMismatchError).detail).toEqual({
      code: 'DATABASE_NEWER',
      migration: 'future-0000000009999',
    });
    expect(String(refused)).toMatch(/Run the newer version/);
    await database.close();
    await empty.drop();
  }, 30_000);
});

describe('transactions', () => {
  let market: MarketDatabase;
  beforeAll(async () => {
    market = await marketDatabase();
    await market.database.query(`CREATE TABLE pair (id int PRIMARY KEY, n int NOT NULL)`);
    await market.database.query(`INSERT INTO pair VALUES (1, 0), (2, 0)`);
  }, 30_000);
  afterAll(() => market.close());

  it('leave nothing behind when they fail, and hand the driver’s own error on', async () => {
    const failed = market.database.transaction(async (tx) => {
      await tx.query('UPDATE pair SET n = 99');
      await tx.query('INSERT INTO pair VALUES (1, 0)');
    });
    const error: unknown = await failed.catch((caught: unknown) => caught);
    expect(isUniqueViolation(error, 'pair_pkey')).toBe(true);
    expect(await market.database.query('SELECT n FROM pair')).toEqual([{ n: 0 }, { n: 0 }]);
  });

  it('say by the market’s own name that the database is away, and keep what it said', async () => {
    const asleep = market.database.query('SELECT pg_sleep(30) AS long_sleep').catch((caught: unknown) => caught);
    const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%long_sleep%' AND pid <> pg_backend_pid() AND datname = current_database()`;
    while ((await market.database.query(end)).length === 0);
    const error = await asleep;
    expect(error).toBeInstanceOf(StoreAway);
    expect(error).toMatchObject({ code: '57P01', cause: expect.any(Error) });
  });

  it('are done again after a deadlock', async () => {
    let starts = 0;
    let met = 0;
    let meet: () => void = () => undefined;
    const both = new Promise<void>((resolve) => (meet = resolve));
    const cross = (first: number, second: number): Promise<void> =>
      market.database.transaction(async (tx) => {
        starts += 1;
        await tx.query('UPDATE pair SET n = n + 1 WHERE id = $1', [first]);
        met += 1;
        if (met === 2) meet();
        await both;
        await tx.query('UPDATE pair SET n = n + 1 WHERE id = $1', [second]);
      });
    await Promise.all([cross(1, 2), cross(2, 1)]);
    expect(starts).toBeGreaterThan(2);
    expect(await market.database.query('SELECT n FROM pair')).toEqual([{ n: 2 }, { n: 2 }]);
  }, 20_000);

  it('leave connections to what somebody waits for, however many there are in the background', async () => {
    const lent = await openDatabase({ url: market.url, poolSize: 6, applicationName: 'lent' });
    const waiting = `SELECT 1 FROM pg_stat_activity WHERE application_name = 'lent' AND wait_event_type = 'Lock'`;
    let done = 0;
    let behind: Promise<unknown>[] = [];
    await market.database.transaction(async (tx) => {
      await tx.query('SELECT pg_advisory_xact_lock(43)');
      behind = Array.from({ length: 12 }, () =>
        inBackground(() => lent.query('SELECT pg_advisory_xact_lock_shared(43)')).then(() => (done += 1)),
      );
      while ((await market.database.query(waiting)).length < 3);
      // All that are not theirs are free, at once.
      const ahead = await Promise.all(
        [1, 2].map((n) => lent.transaction((own) => own.query('SELECT $1::int AS n', [n]))),
      );
      expect(ahead.flat()).toEqual([{ n: 1 }, { n: 2 }]);
      expect([(await market.database.query(waiting)).length, done]).toEqual([3, 0]);
      const woken = await inBackground(() => inForeground(() => lent.query('SELECT 3 AS n')));
      expect(woken).toEqual([{ n: 3 }]);
    });
    await Promise.all(behind);
    expect(done).toBe(12);
    await lent.close();
  });

  it('wait for the disk when durable, whatever the server’s default', async () => {
    const show = (durable: boolean): Promise<Record<string, unknown>[]> =>
      market.database.transaction(
        async (tx) => {
          await tx.query('SET LOCAL statement_timeout = 1000');
          return tx.query('SHOW synchronous_commit');
        },
        { durable },
      );
    await market.database.query(
      `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`,
    );
    const fresh = await openDatabase({ url: market.url });
    const seen = await fresh.transaction((tx) => tx.query('SHOW synchronous_commit'), { durable: true });
    const usual = await fresh.query('SHOW synchronous_commit');
    await fresh.close();
    expect(seen).toEqual([{ synchronous_commit: 'on' }]);
    expect(usual).toEqual([{ synchronous_commit: 'off' }]);
    expect(await show(true)).toEqual([{ synchronous_commit: 'on' }]);
  });
});

it('recovers when Postgres is killed hard mid-run: everything acknowledged is there, nothing runs twice', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'freehold-kill-'));
  let postgres = await startPostgres({ dataDir });
  const database = await openDatabase({ url: postgres.url, poolSize: 4 });
  await database.query('CREATE TABLE tick (id text PRIMARY KEY)');
  const acknowledged: string[] = [];
  const unknown: string[] = [];
  let stop = false;
  const writer = async (name: string): Promise<void> => {
    for (let n = 0; !stop; n += 1) {
      const id = `${name}-${n}`;
      try {
        await database.transaction((tx) => tx.query('INSERT INTO tick VALUES ($1)', [id]), { durable: true });
        acknowledged.push(id);
      } catch {
        // Lost during COMMIT: may be there or not, but never twice (primary key).
        unknown.push(id);
      }
    }
  };
  const writers = ['a', 'b', 'c'].map(writer);
  const port = postgres.port;
  while (acknowledged.length < 50) await new Promise((resolve) => setImmediate(resolve));
  await postgres.stop('immediate');
  postgres = await startPostgres({ dataDir, port });
  const before = acknowledged.length;
  while (acknowledged.length < before + 50) await new Promise((resolve) => setImmediate(resolve));
  stop = true;
  await Promise.all(writers);
  const rows = await database.query<{ id: string }>('SELECT id FROM tick');
  const there = new Set(rows.map(({ id }) => id));
  expect(acknowledged.filter((id) => !there.has(id))).toEqual([]);
  expect(rows.length).toBeLessThanOrEqual(acknowledged.length + unknown.length);
  await database.close();
  await postgres.stop('immediate');
  rmSync(dataDir, { recursive: true, force: true });
}, 60_000);
