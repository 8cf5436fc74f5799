/** `npm run chaos`: real processes are killed, stopped and starved while batches run; then the books must be perfect. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { House } from '../../apps/devnet/dist/house/house.js';
import { breakThings } from './break-things.mjs';
import { BEFORE_ACCEPTANCE, chatAccepted, cutChat, judgeChat } from './cut-chat.mjs';
import { doctorOf, factsOf, judge } from './job.mjs';
import { Load } from './load.mjs';
import { AMPLIFICATION_MAX, PROFILES } from './profiles.mjs';
import { seeded } from './random.mjs';

const HELP = `npm run chaos -- [--profile smoke|ci|soak] [--seed N] [--set KEY=N ...] [--json] [--keep]

Cuts a chat off between its answer and its acceptance, then runs batches of chat rows on real processes and breaks these
until all faults were made; then settles on chain. The last line is JSON:
{seed, jobs, kills, killsInFlight, reorgs, queueWipes, databaseCrashes, reexecuted, fenced, lost, paidTwice, doctor, pass, ...}

  --profile    how much is broken (default smoke)
  --seed N     repeats a run's choices (default: from the clock, printed)
  --set KEY=N  another number for one of the profile's settings; the result says so
  --keep       leaves the data folder, and prints where it is

Examples:
  npm run chaos -- --profile smoke --seed 7
  npm run chaos -- --profile soak --json
  npm run chaos -- --profile soak --set jobs=1000 --set kills=100`;

const { values } = parseArgs({
  options: {
    profile: { type: 'string', default: 'smoke' },
    seed: { type: 'string' },
    set: { type: 'string', multiple: true, default: [] },
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const named = PROFILES[values.profile];
if (named === undefined) {
  console.error(`--profile: expected ${Object.keys(PROFILES).join(', ')}, got '${values.profile}'.`);
  process.exit(2);
}
const changed = Object.fromEntries(values.set.map((setting) => [setting.split('=')[0], Number(setting.split('=')[1])]));
for (const [key, value] of Object.entries(changed)) {
  if (
    typeof (/** @type {Readonly<Record<string, unknown>>} */ ({ ...named })[key]) === 'number' &&
    Number.isFinite(value)
  )
    continue;
  console.error(`--set: expected one of ${Object.keys(named).join(', ')} and a number, got '${key}=${value}'.`);
  process.exit(2);
}
const profile = { ...named, ...changed };
const seed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed);
const random = seeded(seed);
const startMs = performance.now();
let workStartMs = startMs;
const say = (/** @type {string} */ text) =>
  (values.json ? process.stderr : process.stdout).write(
    `[${((performance.now() - startMs) / 1_000).toFixed(1).padStart(6)} s] ${text}\n`,
  );
const inTime = (/** @type {string} */ where) => {
  const seconds = (performance.now() - workStartMs) / 1_000;
  if (seconds > profile.limitSeconds) throw new Error(`not done within ${profile.limitSeconds} s: ${where}`);
};

say(`profile ${values.profile}, seed ${seed}${values.set.length > 0 ? `, with ${values.set.join(' ')}` : ''}`);
const dataDir = mkdtempSync(join(tmpdir(), 'freehold-chaos-'));
const house = await House.open({
  dataDir,
  httpPort: 0,
  fresh: false,
  say,
  databaseUrl: process.env['DATABASE_URL'],
  redisUrl: process.env['REDIS_URL'],
  rpcUrl: process.env['RPC_URL'],
});
house.closeOnSignals();
const db = new pg.Pool({ connectionString: house.databaseUrl, max: 4, connectionTimeoutMillis: 2_000 });
db.on('error', () => undefined);
db.on('connect', (client) => client.on('error', () => undefined));

let summary;
try {
  summary = await run();
} catch (error) {
  summary = { seed, pass: false, fault: error instanceof Error ? error.stack : String(error) };
} finally {
  await db.end();
  await house.close();
  if (values.keep || summary?.pass !== true) say(`data and logs: ${dataDir}`);
  else rmSync(dataDir, { recursive: true, force: true });
}
const seconds = Number(((performance.now() - startMs) / 1_000).toFixed(1));
const told = { ...summary, seconds, ...(values.set.length > 0 ? { changed } : {}) };
for (const fault of ('faults' in summary ? summary.faults : undefined) ?? []) say(`FAULT: ${fault}`);
// What failed may have left the load waiting for a house that is closed.
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(summary.pass ? 0 : 1));

async function run() {
  await house.startCoordinator(BEFORE_ACCEPTANCE);
  const nodes = Array.from({ length: profile.nodes }, (_, i) =>
    house.startNode({
      name: `node-${i}`,
      engine: 'llama-cpp',
      mode: 'slow',
      restarts: 1_000_000,
      rates: { inputToken: '50000', outputToken: '100000' },
      flags: ['--slow-ms', String(profile.rowDelayMs)],
    }),
  );
  await Promise.all(nodes);
  say(`${profile.nodes} nodes are up`);
  workStartMs = performance.now();
  const chat = await cutChat(house, db);
  say('a chat was answered, its scheduler died before it was accepted, and another is up');
  const load = new Load({ house, db, profile, say, inTime });
  const faults = await Promise.race([breakThings({ house, db, random, profile, say, inTime }), neverDone(load)]);
  say(`faults are over: ${JSON.stringify(faults)}`);
  load.enough();
  await load.done;
  say(`${load.batches.length} batches have ended`);
  await chatAccepted(db, chat);
  const settled = await house.settle(say, { refund: profile.refund });
  // Acceptance is behind us; the last outbox rows may still be on their way.
  await sleep(2_000);
  const facts = await factsOf(
    db,
    house,
    load.batches.map(({ id }) => id),
  );
  const doctor = await doctorOf(house);
  return judge({
    seed,
    profile,
    faults,
    batches: load.batches,
    doctor,
    settled,
    facts,
    amplificationMax: AMPLIFICATION_MAX,
    ofChat: await judgeChat(db, chat),
  });
}

/**
 * Only a failure of the load ends the faults early.
 *
 * @param {Load} load
 * @returns {Promise<never>}
 */
function neverDone(load) {
  return load.done.then(() => new Promise(() => undefined));
}
