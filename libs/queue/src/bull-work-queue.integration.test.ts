import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import pg from 'pg';
import { workQueueSuite, type WorkQueueBench } from '@freehold/testing';
import { freePort, temporaryDatabase, testPostgres } from '@freehold/wiring/embedded';
import { BullWorkQueue } from './bull-work-queue.ts';

/** Deaths are noticed within a second here, so that the tests need not wait for the real lock. */
const SOON = { lockMs: 1_000, stalledCheckMs: 500, drainMs: 500 };

const DEADLOCK = '40P01';

async function postgresBench(): Promise<WorkQueueBench> {
  const server = await testPostgres();
  const database = await temporaryDatabase(server.url);
  const admin = new pg.Client({ connectionString: database.url });
  await admin.connect();
  return {
    open: () => Promise.resolve(new BullWorkQueue({ databaseUrl: database.url, ...SOON })),
    loseData: () => dropSchema(admin),
    cutConnections: async () =>
      void (await admin.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
      )),
    close: async () => {
      await admin.end();
      await database.drop();
      await server.stop();
    },
  };
}

/** Under live workers the drop may be the one that a deadlock ends: whoever drops tables in earnest tries again, too. */
async function dropSchema(admin: pg.Client): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return void (await admin.query('DROP SCHEMA IF EXISTS bullmq CASCADE'));
    } catch (error) {
      if ((error as { code?: string }).code !== DEADLOCK || attempt === 10) throw error;
    }
  }
}

async function redisBench(): Promise<WorkQueueBench> {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'freehold-redis-'));
  const server = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', dir], {
    stdio: 'ignore',
  });
  const url = `redis://127.0.0.1:${port}`;
  const admin = new Redis(url, { retryStrategy: () => 50 });
  admin.on('error', () => {
    // The server is still starting; `ping` below waits for it.
  });
  await admin.ping();
  return {
    open: () => Promise.resolve(new BullWorkQueue({ redisUrl: url, ...SOON })),
    loseData: async () => void (await admin.flushall()),
    cutConnections: async () => void (await admin.call('CLIENT', 'KILL', 'SKIPME', 'yes', 'TYPE', 'normal')),
    close: async () => {
      admin.disconnect();
      await ended(server);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });
}

workQueueSuite('PostgreSQL', postgresBench);

if (spawnSync('redis-server', ['--version']).status === 0) workQueueSuite('Redis', redisBench);
else {
  describe('work queue on Redis', () => {
    it('is checked only where redis-server is installed', () => {
      process.stdout.write('skipped: no redis-server on the PATH\n');
    });
  });
}

describe('a queue without a backend', () => {
  it('says which variables would give it one', () => {
    expect(() => new BullWorkQueue({})).toThrow(/DATABASE_URL or REDIS_URL/);
  });
});

describe('what the doctor asks a queue', () => {
  it('names the outbox rows that wait, are delayed or at work, and knows nothing once they are done or the data is lost', async () => {
    const bench = await postgresBench();
    const queue = (await bench.open()) as BullWorkQueue;
    try {
      await queue.renew();
      await queue.publish('place', [
        { outboxId: '11', ids: {} },
        { outboxId: '12', ids: {}, notBeforeMs: 600_000 },
      ]);
      await queue.publish('verify', [{ outboxId: '13', ids: {} }]);
      let release = (): void => undefined;
      const working = new Promise<void>((started) => {
        void queue.consume('verify', 1, async () => {
          started();
          await new Promise<void>((done) => (release = done));
        });
      });
      await working;
      expect([...((await queue.entries()) ?? [])].sort()).toEqual(['11', '12', '13']);
      release();
      while ((await queue.entries())?.includes('13') === true);
      expect([...((await queue.entries()) ?? [])].sort()).toEqual(['11', '12']);
      await bench.loseData();
      expect(await queue.entries()).toBeNull();
    } finally {
      await queue.close();
      await bench.close();
    }
  });
});
