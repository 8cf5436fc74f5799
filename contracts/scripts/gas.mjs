// Measures whole transactions (base and calldata included) and keeps them in contracts/snapshots/gas.json.
// --check fails when a goal is missed, or when a figure moved by more than the tolerance without a new snapshot.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CONTRACTS, forge } from './forge.mjs';

/** 70 providers' days of 10,000 jobs: the week that the per-job figures are about. */
export const JOBS_PER_WEEK = 700_000;
const SNAPSHOT = join(CONTRACTS, 'snapshots', 'gas.json');
/** A different calldata byte moves a figure by 12 gas; anything above this is a change of the contracts. */
const TOLERANCE = 0.005;

/** Goals: at most this much. From the settlement design; per job in a week of {@link JOBS_PER_WEEK}, else per call or per item. */
export const GOALS = {
  payer10: 1,
  payer100: 9,
  netted1000x100: 6,
  netted1000x100daily: 25,
  contest: 80_000,
  escape50: 16_000,
};

/** Runs the measurement and turns transactions into the figures that people compare. */
export function measure() {
  const raw = join(CONTRACTS, 'out', 'gas.json');
  rmSync(raw, { force: true });
  const run = forge(['test', '--isolate', '--match-contract', 'GasTest'], { quiet: true });
  if (run.status !== 0 || !existsSync(raw)) throw new Error(`gas: the measurement failed\n${run.output}`);
  const calls = JSON.parse(readFileSync(raw, 'utf8'));
  const perJob = (/** @type {number} */ gas) => Math.round((gas / JOBS_PER_WEEK) * 1_000) / 1_000;
  return {
    metrics: {
      // Redeemed and paid out in bundles; 100 providers take two bundles of 50 of each.
      payer10: perJob(calls.redeem10 + calls.withdraw10),
      payer100: perJob(2 * (calls.redeem50 + calls.withdraw50)),
      netted1000x100: perJob(calls.posting1000x100 + calls.withdraw100),
      netted1000x100daily: perJob(7 * calls.posting1000x100 + calls.withdraw100),
      bundle50: Math.round(calls.withdraw50 / 50),
      contest: calls.contest,
      escape50: Math.round(calls.cash50adjacent / 50),
      transferPerJob: calls.transfer,
    },
    also: {
      payer10single: perJob(10 * calls.redeem1),
      payer100single: perJob(100 * calls.redeem1),
      escape50scattered: Math.round(calls.cash50scattered / 50),
      bundle100: Math.round(calls.withdraw100 / 100),
      relayed50: Math.round(calls.withdrawFor50 / 50),
      redeem50: Math.round(calls.redeem50 / 50),
      nettedDebit: Math.round((calls.posting1000x100 - calls.posting100x100) / 900),
    },
    calls: Object.fromEntries(Object.entries(calls).filter(([name]) => !name.startsWith('again'))),
  };
}

/**
 * The goals that a set of metrics misses, in words.
 *
 * @param {Readonly<Record<string, number>>} metrics
 */
export function missedGoals(metrics) {
  return Object.entries(GOALS)
    .filter(([name, goal]) => metrics[name] > goal)
    .map(([name, goal]) => `${name}: at most ${goal}, measured ${metrics[name]}`);
}

/**
 * @param {{ readonly calls: Readonly<Record<string, number>> }} before
 * @param {{ readonly calls: Readonly<Record<string, number>> }} after
 */
function moved(before, after) {
  const names = new Set([...Object.keys(before.calls), ...Object.keys(after.calls)]);
  return [...names]
    .filter((name) => {
      const [a, b] = [before.calls[name] ?? 0, after.calls[name] ?? 0];
      return Math.abs(a - b) > TOLERANCE * Math.max(a, b);
    })
    .map((name) => `${name}: ${before.calls[name]} in the snapshot, ${after.calls[name]} now`);
}

function main() {
  if (process.argv.includes('--help')) {
    process.stdout.write(
      'node contracts/scripts/gas.mjs [--check]\n  writes contracts/snapshots/gas.json, or compares with it\n',
    );
    return;
  }
  const now = measure();
  const complaints = missedGoals(now.metrics);
  if (process.argv.includes('--check')) {
    complaints.push(...moved(JSON.parse(readFileSync(SNAPSHOT, 'utf8')), now));
  } else {
    mkdirSync(join(CONTRACTS, 'snapshots'), { recursive: true });
    writeFileSync(SNAPSHOT, `${JSON.stringify(now, null, 2)}\n`);
  }
  process.stdout.write(`${JSON.stringify(now.metrics)}\n`);
  for (const complaint of complaints) process.stderr.write(`gas: ${complaint}\n`);
  if (complaints.length > 0) process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
