/**
 * The floors of placement that are timings, lean enough for every run of CI: processor time of both sides measured in the same run, so
 * that a slow or busy machine changes both, and of G5, whose floor is far away, the processor time of a decision. Fails below a floor;
 * the targets are the benches' own to reach. The last line names the goals that could not be measured here.
 *
 *   npm run bench -- floors
 */
import { run as placement } from './placement.mjs';
import { run as placementScale } from './placement-scale.mjs';
import { run as slurm } from './slurm.mjs';

/**
 * @typedef {object} Figure
 * @property {string} goal
 * @property {string} of
 * @property {number} [least]
 * @property {number} [most]
 *
 * @typedef {object} Part
 * @property {(json: boolean) => Promise<{ metrics: { skipped?: string; [key: string]: unknown } }>} measure
 * @property {readonly Figure[]} figures
 */

/**
 * More rounds than CI has time for would only narrow what lies far above the floor anyway.
 *
 * @type {readonly Part[]}
 */
const PARTS = [
  {
    measure: (json) => placement({ args: ['--rounds', '5', '--tasks', '12000'], json }),
    figures: [
      { goal: 'G1', of: 'ratioPerCpuSecond', least: 4 },
      { goal: 'G1', of: 'graphileRatio', least: 1 },
    ],
  },
  {
    measure: (json) => slurm({ args: ['--rounds', '1', '--limit-s', '12', '--nodes', '500'], json }),
    figures: [{ goal: 'G2', of: 'ratio500', least: 5 }],
  },
  {
    // Slurm is not through by then, and is judged by what it has placed.
    measure: (json) => slurm({ args: ['--rounds', '1', '--limit-s', '12', '--nodes', '5000'], json }),
    figures: [{ goal: 'G3', of: 'ratio5000', least: 50 }],
  },
  {
    measure: (json) => placementScale({ args: ['--rounds', '3', '--decisions', '10000'], json }),
    figures: [
      // By the clock G4 allows twice the time at the median and four times at the 99th percentile; the mean lies between them.
      { goal: 'G4', of: 'cpuRatio', most: 2 },
      // By the clock G5 allows the slowest hundredth a millisecond.
      { goal: 'G5', of: 'cpuUsAt10k', most: 1_000 },
    ],
  },
];

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ json = false } = {}) {
  /** @type {Record<string, unknown>} */
  const metrics = {};
  /** @type {Record<string, number>} */
  const floor = {};
  /** @type {string[]} */
  const missed = [];
  /** @type {string[]} */
  const skipped = [];
  for (const { measure, figures } of PARTS) {
    const { metrics: found } = await measure(json);
    for (const { goal, of, least, most } of figures) {
      const name = `${goal} ${of}`;
      const value = found[of] ?? (found.skipped === undefined ? null : `skipped: ${found.skipped}`);
      metrics[name] = value;
      floor[name] = least ?? most ?? Number.NaN;
      // What cannot be measured here (no redis-server, no slurm-wlm) says so, and is no miss. A figure that is not there is one.
      if (typeof value === 'string') skipped.push(name);
      else if (typeof value !== 'number' || Number.isNaN(value)) missed.push(`${name} was not measured`);
      else if (value < (least ?? -Infinity) || value > (most ?? Infinity)) missed.push(`${name} ${value}`);
    }
  }
  if (!json) for (const one of missed) console.log(`  missed: ${one}`);
  return { metrics: { ...metrics, missed, skipped }, floor, pass: missed.length === 0 };
}
