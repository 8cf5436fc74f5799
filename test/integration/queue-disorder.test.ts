import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { finalizeBatch, runLease, verifyResult } from '@freehold/market';
import { PgJobStore } from '@freehold/persistence';
import { DiskObjectStore } from '@freehold/storage';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { MarketWorld } from '../../libs/persistence/test/market-world.ts';
import { auditor, deliver, panel, playedLease, ROWS } from './played-lease.ts';

const JOBS = 5;
const SEEDS = [1, 2, 3];
/** Each message is handed out so often; a queue promises at least once. */
const TIMES = 3;
const ROUNDS_MAX = 10;
const signal = new AbortController().signal;

interface Filed {
  readonly topic: string;
  readonly message: Readonly<Record<string, string | number>>;
}

/** mulberry32: the same seed, the same disorder. */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  const deck = [...items];
  let state = seed;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  for (let i = deck.length - 1; i > 0; i -= 1) {
    const j = Math.floor(next() * (i + 1));
    [deck[i], deck[j]] = [deck[j] as T, deck[i] as T];
  }
  return deck;
}

describe('a queue that hands out every message three times and in any order', () => {
  let market: MarketDatabase;
  let world: MarketWorld;
  let objects: DiskObjectStore;
  let dir: string;

  beforeAll(async () => {
    market = await marketDatabase();
    world = new MarketWorld(market.database);
    dir = mkdtempSync(join(tmpdir(), 'freehold-queue-disorder-'));
    objects = new DiskObjectStore(dir, 'test');
  });
  afterAll(async () => {
    await market.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** Everything the outbox ever filed, old and new. */
  const filed = (): Promise<readonly Filed[]> =>
    market.database.query<Filed & Record<string, unknown>>('SELECT topic, message FROM outbox ORDER BY id');

  it.each(SEEDS)('pays for every row once and finishes every batch once, with seed %i', async (seed) => {
    const honest = panel(auditor('other', 'node'));
    const scenes = await Promise.all(
      Array.from({ length: JOBS }, () => playedLease({ world, objects }, deliver(), honest)),
    );
    const jobs = scenes.map(({ jobId }) => jobId);
    const portsOf = new Map(scenes.map(({ lease, ports }) => [lease.task, ports]));
    // One of them was lost before it delivered: its old epoch's messages are handed out as well.
    const lost = scenes[0];
    if (lost === undefined) throw new Error('no scene');
    await world.store.giveBack(lost.lease, 'lose', 'silence');
    const [again] = await world.store.grant(
      [world.wish(lost.jobId, lost.nodeId, 0, ROWS, { task: lost.lease.task, epoch: lost.lease.epoch + 1 })],
      10_000,
    );
    if (again === undefined) throw new Error('not granted again');
    for (const { lease, ports } of scenes)
      expect(await runLease(ports, lease === lost.lease ? again : lease, signal)).toEqual({ end: 'committed' });

    const finished: string[] = [];
    const handle = async ({ topic, message }: Filed): Promise<void> => {
      const task = String(message['task']);
      const ports = portsOf.get(task);
      if (topic === 'verify' && ports !== undefined)
        await verifyResult(ports, { task, epoch: Number(message['epoch']) }, signal);
      if (topic === 'finalize' && jobs.includes(String(message['job']))) {
        const job = String(message['job']);
        const outcome = await finalizeBatch({ jobs: new PgJobStore(market.database), objects }, job);
        if (outcome === 'finished') finished.push(job);
      }
    };
    const stale: Filed[] = [{ topic: 'verify', message: { task: lost.lease.task, epoch: lost.lease.epoch } }];
    let known = 0;
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const all = [...stale, ...(await filed())];
      if (all.length === known) break;
      known = all.length;
      const handed = shuffled(Array.from({ length: TIMES }, () => all).flat(), seed * ROUNDS_MAX + round);
      // As the scheduler does: several at once, and a handler that fails is asked again.
      for (let i = 0; i < handed.length; i += 4) await Promise.all(handed.slice(i, i + 4).map(handle));
    }

    expect(finished.sort()).toEqual([...jobs].sort());
    const paid = await market.database.query<{ job_id: string; receipts: number; rows: number; charges: number }>(
      `SELECT r.job_id, count(*)::int AS receipts, sum(r.rows)::int AS rows,
         (SELECT count(*)::int FROM ledger_transaction t JOIN receipt o ON o.task_id::text = t.ref
          WHERE t.kind = 'charge' AND o.job_id = r.job_id) AS charges
       FROM receipt r WHERE r.job_id = ANY($1) GROUP BY r.job_id`,
      [jobs],
    );
    expect(paid).toHaveLength(JOBS);
    for (const job of paid) expect(job).toMatchObject({ receipts: 1, rows: ROWS, charges: 1 });
    for (const job of jobs) {
      expect(await world.rowStates(job)).toEqual({ succeeded: ROWS });
      expect(await world.job(job)).toMatchObject({ state: 'completed', rows_succeeded: ROWS, rows_failed: 0 });
    }
  });
});
