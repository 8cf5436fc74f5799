/** What a market costs that has nothing to do: CPU-seconds a minute of every process of the house, after it has settled. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CAST } from '../../apps/devnet/dist/main-job/cast.js';
import { withHouse } from './house/market-house.mjs';

const SETTLE_MS = 20_000;
const WATCH_MS = 60_000;
/** From the first decision about how many processes a house has: docs/decisions/0006. */
const FLOOR_S = 12;
const TARGET_S = 8;

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ json = false } = {}) {
  const say = (/** @type {string} */ text) => json || console.log(text);
  const nodes = CAST.filter(({ mode }) => mode !== 'flapper');
  return withHouse({ say, nodes }, async () => {
    await sleep(SETTLE_MS);
    const before = secondsByProcess();
    const startedMs = performance.now();
    await sleep(WATCH_MS);
    const minutes = (performance.now() - startedMs) / 60_000;
    /** @type {Record<string, number>} */
    const perMinute = {};
    for (const [name, seconds] of Object.entries(secondsByProcess()))
      perMinute[name] = round((seconds - (before[name] ?? 0)) / minutes);
    const total = round(Object.values(perMinute).reduce((sum, seconds) => sum + seconds, 0));
    say(`an idle house takes ${total} CPU-seconds a minute: ${JSON.stringify(perMinute)}`);
    return {
      name: 'idle-house',
      metrics: { cpuSecondsPerMinute: total, ...perMinute },
      floor: { cpuSecondsPerMinute: FLOOR_S },
      target: { cpuSecondsPerMinute: TARGET_S },
      pass: total <= FLOOR_S,
    };
  });
}

/** User and system seconds of everything below this process, by what it is. */
function secondsByProcess() {
  /** @type {Map<number, { parent: number; ticks: number; command: string }>} */
  const found = new Map();
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      found.set(Number(pid), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]), command });
    } catch {
      // The process ended between the listing and the reading.
    }
  }
  /** @type {Record<string, number>} */
  const sums = {};
  for (const [pid, { ticks, command }] of found) {
    let at = found.get(pid)?.parent ?? 0;
    while (at > 1 && at !== process.pid) at = found.get(at)?.parent ?? 0;
    if (at !== process.pid) continue;
    const name = nameOf(command);
    sums[name] = (sums[name] ?? 0) + ticks / 100;
  }
  return sums;
}

/** @param {string} command */
function nameOf(command) {
  if (/postgres/.test(command)) return 'postgres';
  if (/anvil/.test(command)) return 'anvil';
  return /apps\/(api|scheduler|node)\/dist/.exec(command)?.[1] ?? 'engines';
}

/** @param {number} value */
function round(value) {
  return Number(value.toFixed(2));
}
