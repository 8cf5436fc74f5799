/**
 * Durable placements per CPU-second (accepted in Postgres → lease committed, synchronous_commit on) beside what the fastest
 * queues do per CPU-second: BullMQ on Redis that syncs every command, and graphile-worker in its batched mode. All processes
 * are counted; all contestants are warm and do the same number. Rounds are interleaved; the result is the median of the rounds'
 * ratios. What of a scheduler's own work is not in it: placement/durable-placements.mjs.
 *
 *   npm run bench -- placement [--rounds N] [--tasks N]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startPostgres } from '@freehold/wiring/embedded';
import { spentMetrics, spentText, stopwatch, together } from './house/processor-time.mjs';
import { assertInOrder, openPlacements, placeRows, tasksOf } from './placement/durable-placements.mjs';
import { median, rounded } from './placement/measure.mjs';
import { bullmqRound, graphileRound, startRedis } from './placement/other-queues.mjs';

/**
 * @import { Spent } from './house/processor-time.mjs'
 * @import { PlacementHouse } from './placement/durable-placements.mjs'
 *
 * @typedef {readonly [name: keyof Measured, work: () => Promise<number>, expected: number]} Contestant
 * @typedef {{ readonly done: number; readonly cpu: number; readonly wall: number; readonly spent: Spent }} Round
 * @typedef {{ placements: Round[]; rowsInTasks: Round[]; bullmq?: Round[]; graphile: Round[] }} Measured
 */

const ROWS_PER_CUT_TASK = 16;
const WARM_UP = 2_000;
const FLOOR = { ratioPerCpuSecond: 4, graphileRatio: 1 };
const TARGET = { ratioPerCpuSecond: 10, graphileRatio: 3 };

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: { rounds: { type: 'string', default: '5' }, tasks: { type: 'string', default: '40000' } },
  });
  const [rounds, tasks] = [Number(values.rounds), Number(values.tasks)];
  if (![rounds, tasks].every((n) => Number.isInteger(n) && n >= 1))
    throw new Error('--rounds and --tasks: expected 1 or more.');
  const dataDir = mkdtempSync(join(tmpdir(), 'freehold-bench-'));
  const settings = { synchronous_commit: 'on', fsync: 'on' };
  const postgres = await startPostgres({ dataDir, settings });
  const redis = await startRedis();
  let house = null;
  try {
    house = await openPlacements(postgres.socketUrl);
    const [sync] = await house.database.query('SHOW synchronous_commit');
    if (sync['synchronous_commit'] !== 'on')
      throw new Error('synchronous_commit is not on: nothing here would be durable');
    // Plans, connections and compiled code are there, and all do what they should, before anybody is counted.
    await oneEach(contestants(house, postgres, redis, WARM_UP));
    await assertInOrder(house);
    const measured = await interleaved(
      rounds,
      contestants(house, postgres, redis, tasks),
      json ? () => undefined : console.log,
    );
    await assertInOrder(house);
    return verdict(measured, house.placed.tasks, tasks, rounds);
  } finally {
    await house?.close();
    await redis?.stop();
    await postgres.stop('fast');
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/**
 * @param {PlacementHouse} house
 * @param {{ readonly socketUrl: string }} postgres
 * @param {{ readonly socket: string } | null} redis
 * @param {number} tasks
 * @returns {Contestant[]}
 */
function contestants(house, postgres, redis, tasks) {
  const cut = tasksOf(tasks, ROWS_PER_CUT_TASK);
  return [
    ['placements', () => placeRows(house, tasks, 1), tasks],
    ['rowsInTasks', () => placeRows(house, tasks, ROWS_PER_CUT_TASK), cut],
    ...bullmq(redis, tasks),
    ['graphile', () => graphileRound(postgres.socketUrl, tasks), tasks],
  ];
}

/**
 * Nobody, where there is no redis-server.
 *
 * @param {{ readonly socket: string } | null} redis
 * @param {number} tasks
 * @returns {Contestant[]}
 */
function bullmq(redis, tasks) {
  return redis === null ? [] : [['bullmq', () => bullmqRound(redis.socket, tasks), tasks]];
}

/**
 * A round that nobody times. Who did not do all of it would be judged by what he left out.
 *
 * @param {readonly Contestant[]} contestants
 */
async function oneEach(contestants) {
  for (const [name, work, expected] of contestants) expect(name, await work(), expected);
}

/**
 * @param {string} name
 * @param {number} done
 * @param {number} expected
 */
function expect(name, done, expected) {
  if (done !== expected) throw new Error(`${name}: ${done} done where ${expected} were expected`);
}

/**
 * A B A B: each contestant once per round, so that what else happens on the machine meets all of them.
 *
 * @param {number} rounds
 * @param {readonly Contestant[]} contestants
 * @param {(text: string) => void} say
 */
async function interleaved(rounds, contestants, say) {
  /** @type {Measured} */
  const measured = { placements: [], rowsInTasks: [], graphile: [] };
  for (let round = 1; round <= rounds; round += 1) {
    for (const [name, work, expected] of contestants) {
      const used = stopwatch();
      const done = await work();
      const spent = used();
      const { cpu, wall } = spent;
      expect(name, done, expected);
      (measured[name] ??= []).push({ done, cpu, wall, spent });
      say(`  round ${round} ${name.padEnd(12)} ${done}, ${Math.round(done / cpu)} per CPU-s: ${spentText(spent)}`);
    }
  }
  return measured;
}

/**
 * @param {Measured} measured
 * @param {number} leases
 * @param {number} tasks
 * @param {number} rounds
 */
function verdict(measured, leases, tasks, rounds) {
  const rate = (/** @type {Round[]} */ one) => one.map(({ done, cpu }) => done / cpu);
  const own = rate(measured.placements);
  const ratio = (/** @type {Round[]} */ one) => rounded(median(rate(one).map((value, i) => own[i] / value)));
  const { bullmq } = measured;
  const metrics = {
    ratioPerCpuSecond: bullmq === undefined ? 'skipped: no redis-server on the PATH' : ratio(bullmq),
    graphileRatio: ratio(measured.graphile),
    placementsPerCpuSecond: Math.round(median(own)),
    placementsPerSecond: Math.round(median(measured.placements.map(({ done, wall }) => done / wall))),
    rowsPerCpuSecondInTasksOf16: Math.round(median(measured.rowsInTasks.map(({ cpu }) => tasks / cpu))),
    bullmqPerCpuSecond: bullmq === undefined ? null : Math.round(median(rate(bullmq))),
    graphilePerCpuSecond: Math.round(median(rate(measured.graphile))),
    leases,
    tasks,
    rounds,
    spent: Object.fromEntries(
      Object.entries(measured).map(([name, all]) => [name, spentMetrics(together(all.map(({ spent }) => spent)))]),
    ),
  };
  const pass =
    (typeof metrics.ratioPerCpuSecond !== 'number' || metrics.ratioPerCpuSecond >= FLOOR.ratioPerCpuSecond) &&
    metrics.graphileRatio >= FLOOR.graphileRatio;
  return { metrics, floor: FLOOR, target: TARGET, pass };
}
