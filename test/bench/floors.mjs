/**
 * The floors of placement that are timings, lean enough for every run of CI: each is a ratio of CPU-seconds measured in the same
 * run, so that a slow or busy machine changes both sides of it. Fails below a floor; the targets are the benches' own to reach.
 *
 *   npm run bench -- floors
 */
import { run as placement } from './placement.mjs';
import { run as placementScale } from './placement-scale.mjs';
import { run as slurm } from './slurm.mjs';

/**
 * @typedef {object} Part
 * @property {string} goal
 * @property {readonly string[]} of
 * @property {Readonly<Record<string, number>>} [floor]
 * @property {Readonly<Record<string, number>>} [ceiling]
 * @property {(json: boolean) => Promise<{ metrics: { skipped?: string; [key: string]: unknown } }>} measure
 */

/**
 * More rounds than CI has time for would only narrow what lies far above the floor anyway.
 *
 * @type {readonly Part[]}
 */
const PARTS = [
  {
    goal: 'G1',
    of: ['ratioPerCpuSecond', 'graphileRatio'],
    floor: { ratioPerCpuSecond: 4, graphileRatio: 1 },
    measure: (json) => placement({ args: ['--rounds', '5', '--tasks', '12000'], json }),
  },
  {
    goal: 'G2',
    of: ['ratio500'],
    floor: { ratio500: 5 },
    measure: (json) => slurm({ args: ['--rounds', '1', '--limit-s', '12', '--nodes', '500'], json }),
  },
  {
    // By the clock G4 allows twice the time at the median and four times at the 99th percentile; the mean lies between them.
    goal: 'G4',
    of: ['cpuRatio'],
    ceiling: { cpuRatio: 2 },
    measure: (json) => placementScale({ args: ['--rounds', '3', '--decisions', '10000'], json }),
  },
];

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ json = false } = {}) {
  /** @type {Record<string, unknown>} */
  const metrics = {};
  /** @type {string[]} */
  const missed = [];
  for (const part of PARTS) {
    const { metrics: found } = await part.measure(json);
    for (const key of part.of) {
      const value = found[key] ?? (found.skipped === undefined ? null : `skipped: ${found.skipped}`);
      metrics[`${part.goal} ${key}`] = value;
      // What cannot be measured here (no redis-server, no slurm-wlm) says so, and is no miss. A figure that is not there is one.
      if (typeof value === 'string') continue;
      if (typeof value !== 'number') {
        missed.push(`${part.goal} ${key} was not measured`);
        continue;
      }
      if (
        value < (part.floor?.[key] ?? Number.NEGATIVE_INFINITY) ||
        value > (part.ceiling?.[key] ?? Number.POSITIVE_INFINITY)
      )
        missed.push(`${part.goal} ${key} ${value}`);
    }
  }
  const named = (/** @type {'floor' | 'ceiling'} */ side) =>
    Object.fromEntries(
      PARTS.flatMap((part) => Object.entries(part[side] ?? {}).map(([key, value]) => [`${part.goal} ${key}`, value])),
    );
  if (!json) for (const one of missed) console.log(`  missed: ${one}`);
  return {
    metrics: { ...metrics, missed },
    floor: { ...named('floor'), ...named('ceiling') },
    pass: missed.length === 0,
  };
}
