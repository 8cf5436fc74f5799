/**
 * Durable placements per CPU-second (accepted in Postgres → lease committed, synchronous_commit on) beside Slurm's controller:
 * tasks of one whole GPU on nodes of eight, at 500 nodes (G2) and at 5,000 (G3). Rounds are interleaved, the result is the
 * median of the rounds' ratios. Slurm writes its state to the disk now and then and promises nothing in between; ours waits for
 * the disk before it says that a task is leased.
 *
 *   npm run bench -- slurm [--rounds N] [--tasks N] [--limit-s N] [--nodes N]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startPostgres, temporaryDatabase } from '@freehold/wiring/embedded';
import { spentMetrics, spentText, stopwatch, together } from './house/processor-time.mjs';
import { assertInOrder, openPlacements, placeRows } from './placement/durable-placements.mjs';
import { median, rounded } from './placement/measure.mjs';
import { missingPrograms, slurmRound, slurmVersion } from './placement/slurm-cluster.mjs';

/** @typedef {Awaited<ReturnType<typeof measure>>} Measured */

const SIZES = [500, 5_000];
const GPUS = 8;
const FLOOR = { ratio500: 5, ratio5000: 50 };
const TARGET = { ratio500: 20, ratio5000: 200 };
const WARM_UP_TASKS = 1_000;

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '5' },
      tasks: { type: 'string', default: '4000' },
      // A controller that is not through by then is judged by what it has placed.
      'limit-s': { type: 'string', default: '30' },
      nodes: { type: 'string' },
    },
  });
  const sizes = values.nodes === undefined ? SIZES : [Number(values.nodes)];
  const [rounds, tasks, limitS] = [values.rounds, values.tasks, values['limit-s']].map(Number);
  if (![rounds, tasks, limitS, ...sizes].every((n) => Number.isInteger(n) && n >= 1))
    throw new Error('--rounds, --tasks, --limit-s, --nodes: expected whole numbers from 1 on.');
  if (tasks > sizes[0] * GPUS) throw new Error(`--tasks: ${sizes[0]} nodes have ${sizes[0] * GPUS} GPUs.`);
  const missing = await missingPrograms();
  if (missing.length > 0)
    return { metrics: { skipped: `no slurm-wlm (not on the PATH: ${missing.join(', ')})` }, pass: true };
  const say = json ? () => undefined : console.log;
  const dataDir = mkdtempSync(join(tmpdir(), 'freehold-bench-'));
  const postgres = await startPostgres({ dataDir, settings: { synchronous_commit: 'on', fsync: 'on' } });
  try {
    const measured = [];
    for (const nodes of sizes) measured.push(await measure(postgres.socketUrl, { nodes, rounds, tasks, limitS, say }));
    return verdict(measured, { rounds, tasks, slurm: await slurmVersion() });
  } finally {
    await postgres.stop('fast');
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/**
 * @param {string} url
 * @param {{ nodes: number; rounds: number; tasks: number; limitS: number; say: (text: string) => void }} size
 */
async function measure(url, { nodes, rounds, tasks, limitS, say }) {
  const database = await temporaryDatabase(url);
  const house = await openPlacements(database.url, { nodes, gpus: GPUS, shareMilli: 1_000 });
  try {
    const held = { endsAtOnce: false };
    // What is warmed up with is counted and proved before anybody's time is.
    const warm = Math.min(WARM_UP_TASKS, tasks);
    const warmed = await placeRows(house, warm, 1, held);
    if (warmed !== warm) throw new Error(`${warmed} tasks leased where ${warm} were expected`);
    await assertInOrder(house);
    const own = [];
    const slurm = [];
    for (let round = 1; round <= rounds; round += 1) {
      const used = stopwatch();
      const done = await placeRows(house, tasks, 1, held);
      const spent = used();
      const { cpu } = spent;
      if (done !== tasks) throw new Error(`${done} tasks leased where ${tasks} were expected`);
      own.push({ rate: done / cpu, spent });
      const theirs = await slurmRound({ nodes, gpus: GPUS, tasks, limitS });
      if (theirs.placed === 0) throw new Error(`Slurm placed nothing on ${nodes} nodes within ${limitS} s`);
      const rate = theirs.placed / Math.max(theirs.cpu, 0.01);
      slurm.push({ ...theirs, rate });
      say(
        `  ${nodes} nodes, round ${round}: ours ${done}, ${Math.round(done / cpu)} per CPU-s: ${spentText(spent)}; ` +
          `Slurm ${theirs.placed} in ${theirs.wall.toFixed(2)} s, slurmctld ${theirs.cpu.toFixed(2)} CPU-s: ${Math.round(rate)} per CPU-s (munged ${theirs.mungeCpu.toFixed(2)} beside)`,
      );
    }
    await assertInOrder(house);
    return { nodes, own, slurm };
  } finally {
    await house.close();
    await database.drop();
  }
}

/**
 * @param {readonly Measured[]} measured
 * @param {{ rounds: number; tasks: number; slurm: string }} beside
 */
function verdict(measured, beside) {
  /** @type {Record<string, number>} */
  const metrics = {};
  for (const { nodes, own, slurm } of measured)
    metrics[`ratio${nodes}`] = rounded(median(own.map(({ rate }, i) => rate / slurm[i].rate)), 1);
  for (const { nodes, own, slurm } of measured) {
    metrics[`placementsPerCpuSecondAt${nodes}`] = Math.round(median(own.map(({ rate }) => rate)));
    metrics[`slurmPerCpuSecondAt${nodes}`] = rounded(median(slurm.map(({ rate }) => rate)), 1);
    metrics[`slurmPlacedAt${nodes}`] = Math.min(...slurm.map(({ placed }) => placed));
    metrics[`mungeCpuSecondsAt${nodes}`] = rounded(median(slurm.map(({ mungeCpu }) => mungeCpu)));
  }
  const spent = measured.map(({ nodes, own, slurm }) => [`spentAt${nodes}`, { ours: ours(own), slurm: theirs(slurm) }]);
  const pass = Object.entries(FLOOR).every(([key, least]) => metrics[key] === undefined || metrics[key] >= least);
  return { metrics: { ...metrics, ...Object.fromEntries(spent), ...beside }, floor: FLOOR, target: TARGET, pass };
}

/** Of all rounds, every process by itself. @param {Measured['own']} rounds */
const ours = (rounds) => spentMetrics(together(rounds.map(({ spent }) => spent)));

/** @param {Measured['slurm']} rounds */
const theirs = (rounds) =>
  spentMetrics(
    together(
      rounds.map(({ wall, cpu, mungeCpu }) => ({
        wall,
        cpu: cpu + mungeCpu,
        byCommand: [/** @type {const} */ (['slurmctld', cpu]), /** @type {const} */ (['munged', mungeCpu])],
      })),
    ),
  );
