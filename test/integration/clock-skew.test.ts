import { execFile, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { MarketWorld } from '../../libs/persistence/test/market-world.ts';

const SKEW_MS = 600_000;
/** Less than the skew: a process that went by its own clock would be wrong about it. */
const NEAR_MS = SKEW_MS / 2;
const SCRIPT = fileURLToPath(new URL('skewed-coordinator.ts', import.meta.url));
const FROM_SOURCE = new URL('../from-source.mjs', import.meta.url).href;
const hasFaketime = spawnSync('faketime', ['--version']).status === 0;
if (!hasFaketime) process.stderr.write('skipped: needs faketime, to give a process a wrong clock\n');
const withFaketime = (name: string, work: () => Promise<void>): void =>
  it(name, () => (hasFaketime ? work() : Promise.resolve()), 60_000);

interface Turn {
  readonly nowMs: number;
  readonly outageMs: number;
  readonly lost: number;
  readonly jobsEnded: number;
  readonly poisoned: number;
}

describe('a scheduler whose clock is ten minutes off', () => {
  let market: MarketDatabase;
  let world: MarketWorld;
  beforeAll(async () => {
    market = await marketDatabase();
    world = new MarketWorld(market.database);
  });
  afterAll(() => market.close());

  const turnAt = async (offset: '+10m' | '-10m'): Promise<Turn> => {
    const node = [
      process.execPath,
      '--import',
      FROM_SOURCE,
      '--conditions=source',
      '--no-warnings',
      SCRIPT,
      market.url,
    ];
    const { stdout } = await promisify(execFile)('faketime', ['-f', offset, ...node], {
      env: { ...process.env, FAKETIME_DONT_FAKE_MONOTONIC: '1', NODE_OPTIONS: '' },
    });
    const turn = JSON.parse(stdout) as Turn;
    // Else nothing would be tested here.
    const skew = (turn.nowMs - Date.now()) * (offset === '+10m' ? 1 : -1);
    expect(skew).toBeGreaterThan(SKEW_MS - NEAR_MS);
    return turn;
  };
  /** A batch that ends, and a lease that runs out, in the middle between the right and the wrong clock. */
  const workThatEndsIn = async (ms: number): Promise<string> => {
    const job = await world.batch(10);
    const lease = await world.lease(job, await world.node(), 0, 10);
    await world.store.heartbeatSelf();
    await market.database.query(
      `WITH ending AS (UPDATE job SET deadline = clock_timestamp() + $2 * interval '1 millisecond' WHERE id = $3)
       UPDATE lease SET lease_until = clock_timestamp() + $2 * interval '1 millisecond' WHERE task_id = $1`,
      [lease.task, ms, job],
    );
    return job;
  };

  withFaketime('ahead: takes no lease, ends no batch and sees no outage, because time is the database’s', async () => {
    const job = await workThatEndsIn(NEAR_MS);
    const turn = await turnAt('+10m');
    expect(turn).toMatchObject({ lost: 0, jobsEnded: 0, poisoned: 0 });
    expect(turn.outageMs).toBeLessThan(NEAR_MS);
    expect(await world.rowStates(job)).toEqual({ pending: 10 });
    await market.database.query('DELETE FROM coordinator');
  });

  withFaketime('behind: takes back what is over all the same', async () => {
    const job = await workThatEndsIn(-1_000);
    // Only its node is silent: the batch itself has time.
    const silent = await world.lease(await world.batch(10), await world.node(), 0, 10);
    await world.silence(silent);
    const turn = await turnAt('-10m');
    expect(turn).toMatchObject({ lost: 2, jobsEnded: 1 });
    expect(await world.store.view(silent)).toMatchObject({ alive: false, state: 'queued', taskEpoch: 2 });
    expect(turn.outageMs).toBeGreaterThanOrEqual(0);
    expect(await world.rowStates(job)).not.toEqual({ pending: 10 });
  });
});
