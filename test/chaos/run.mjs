/** `npm run chaos`: real processes are killed, stopped and starved while a batch runs; then the books must be perfect. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { House } from '../../apps/devnet/dist/house/house.js';
import { breakProcess, inFlight, wipeQueue } from './faults.mjs';
import { doctorOf, factsOf, judge, submitBatch, terminalRecords } from './job.mjs';
import { AMPLIFICATION_MAX, PROFILES } from './profiles.mjs';
import { seeded } from './random.mjs';

const HELP = `npm run chaos -- [--profile smoke|ci|soak] [--seed N] [--json] [--keep]

Runs batches of chat rows on real processes, one after the other, and breaks them until all faults were made. The last line is JSON:
{seed, jobs, rows, kills, killsInFlight, queueWipes, databaseCrashes, reexecuted, fenced, lost, paidTwice, doctor, pass}

  --profile  how much is broken (default smoke)
  --seed N   repeats a run's choices (default: from the clock, printed)
  --keep     leaves the data folder, and prints where it is

Examples:
  npm run chaos -- --profile smoke --seed 7
  npm run chaos -- --profile soak --json`;

const { values } = parseArgs({
  options: {
    profile: { type: 'string', default: 'smoke' },
    seed: { type: 'string' },
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const profile = PROFILES[values.profile];
if (profile === undefined) {
  console.error(`--profile: expected ${Object.keys(PROFILES).join(', ')}, got '${values.profile}'.`);
  process.exit(2);
}
const seed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed);
const random = seeded(seed);
const startMs = performance.now();
let workStartMs = startMs;
const say = (text) =>
  (values.json ? process.stderr : process.stdout).write(
    `[${((performance.now() - startMs) / 1_000).toFixed(1).padStart(6)} s] ${text}\n`,
  );

say(`profile ${values.profile}, seed ${seed}`);
const dataDir = mkdtempSync(join(tmpdir(), 'freehold-chaos-'));
const house = await House.open({
  dataDir,
  httpPort: 0,
  fresh: false,
  say,
  databaseUrl: process.env.DATABASE_URL,
  redisUrl: process.env.REDIS_URL,
  rpcUrl: process.env.RPC_URL,
});
house.closeOnSignals();
const db = new pg.Pool({ connectionString: house.databaseUrl, max: 2, connectionTimeoutMillis: 2_000 });
db.on('error', () => undefined);
db.on('connect', (client) => client.on('error', () => undefined));

let summary;
try {
  await house.startCoordinator();
  for (let i = 0; i < profile.nodes; i += 1) {
    await house.startNode({
      name: `node-${i}`,
      engine: 'llama-cpp',
      mode: 'slow',
      restarts: 1_000_000,
      rates: { inputToken: '50000', outputToken: '100000' },
      flags: ['--slow-ms', String(profile.rowDelayMs)],
    });
  }
  say(`${profile.nodes} nodes are up`);
  workStartMs = performance.now();
  const batchIds = [];
  const faults = await breakThings(batchIds);
  say(`faults are over: ${JSON.stringify(faults)}`);
  const batches = [];
  for (const id of batchIds) {
    const job = await waitForEnd(id);
    batches.push({ id, job, records: await terminalRecords(house, id, profile.rows) });
  }
  // Acceptance is behind us; the last vouchers and outbox rows may still be on their way.
  await sleep(2_000);
  summary = judge({
    seed,
    profile,
    faults,
    batches,
    doctor: await doctorOf(house),
    facts: await factsOf(db, batchIds),
    amplificationMax: AMPLIFICATION_MAX,
  });
} catch (error) {
  summary = { seed, pass: false, fault: String(error?.stack ?? error) };
} finally {
  await db.end();
  await house.close();
  if (values.keep || summary?.pass !== true) say(`data and logs: ${dataDir}`);
  else rmSync(dataDir, { recursive: true, force: true });
}
summary.seconds = Number(((performance.now() - startMs) / 1_000).toFixed(1));
for (const fault of summary.faults ?? []) say(`FAULT: ${fault}`);
console.log(JSON.stringify(summary));
process.exitCode = summary.pass ? 0 : 1;

/**
 * Kills and stops in random order until enough were done; the queue is dropped and Postgres stopped hard along the way.
 * There is always a batch to hit: whenever one has ended before the faults have, the next is submitted. So a fast machine
 * runs more rows under the same faults.
 */
async function breakThings(batchIds) {
  const done = { kills: 0, stops: 0, killsInFlight: 0, queueWipes: 0, databaseCrashes: 0 };
  // A shuffled deck, dealt again when it is empty: every process has its turn under every seed.
  const names = ['scheduler', 'api', ...house.nodes.keys()];
  let deck = [];
  const wipesAt = spread(profile.queueWipes, profile.kills);
  const crashesAt = spread(profile.databaseCrashes, profile.kills);
  while (done.kills < profile.kills) {
    if (batchIds.length === 0 || !(await isRunning(batchIds.at(-1)))) {
      batchIds.push(await submitBatch(house, profile.rows, batchIds.length));
      say(`batch ${batchIds.length} is submitted`);
    }
    inTime(`${done.kills} of ${profile.kills} faults`);
    await sleep(random.between(...profile.gapMs));
    if (wipesAt.delete(done.kills)) {
      await wipeQueue(db).then(
        () => (done.queueWipes += 1),
        (error) => say(`queue not dropped: ${error.message}`),
      );
    }
    if (crashesAt.delete(done.kills) && house.postgres !== null) {
      await house.crashPostgres();
      done.databaseCrashes += 1;
    }
    const stop = random.next() < profile.stopShare;
    if (deck.length === 0) deck = random.shuffled(names);
    const hit = await breakProcess({ house, db, random, name: deck.pop(), stop });
    done.kills += 1;
    if (stop) done.stops += 1;
    if (hit) done.killsInFlight += 1;
  }
  return done;
}

function spread(count, over) {
  return new Set(Array.from({ length: count }, (_, i) => Math.floor(((i + 1) * over) / (count + 1))));
}

async function isRunning(batchId) {
  const { rows } = await db
    .query('SELECT state FROM job WHERE id = $1', [batchId])
    .catch(() => ({ rows: [{ state: 'unknown' }] }));
  return !['completed', 'failed', 'expired', 'cancelled'].includes(rows[0]?.state);
}

function inTime(where) {
  const seconds = (performance.now() - workStartMs) / 1_000;
  if (seconds > profile.limitSeconds) throw new Error(`not done within ${profile.limitSeconds} s: ${where}`);
}

async function waitForEnd(batchId) {
  while (await isRunning(batchId)) {
    inTime(`batch ${batchId}: ${await inFlight(db).catch(() => 'unknown')} leases in flight`);
    await sleep(300);
  }
  return (
    await db.query(
      'SELECT state, row_count, rows_succeeded, rows_failed, rows_ended, cap, charged FROM job WHERE id = $1',
      [batchId],
    )
  ).rows[0];
}
