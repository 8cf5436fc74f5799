/**
 * What taking a small batch costs: job, outbox row and the rows of its file, from many submitters at once, in shared windows and
 * each for itself, on a real PostgreSQL with fsync on. Interleaved; CPU-seconds of every process; what was written is compared with
 * what was sent before any time is believed.
 *
 *   npm run bench -- ingest [--rounds N] [--batches N] [--submitters N]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { migrate, openDatabase, PgJobStore, runDoctor } from '@freehold/persistence';
import { startPostgres } from '@freehold/wiring/embedded';
import { cpuSecondsOfTree } from './house/processor-time.mjs';
import { median, rounded } from './placement/measure.mjs';

/**
 * @import { NewBatch } from '@freehold/market'
 * @import { Database } from '@freehold/persistence'
 *
 * @typedef {{ cpu: number; statements: number; wall: number }} Round
 */

const ROWS_PER_BATCH = 16;
const ORG = 'org_bench';
const KEY = 'key_bench';
const FILE = 'file-bench0001';
/** What sharing has to bring at least. */
const FLOOR = { statementsRatio: 3, cpuRatio: 1.2 };

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '5' },
      batches: { type: 'string', default: '1000' },
      submitters: { type: 'string', default: '64' },
    },
  });
  const [rounds, batches, submitters] = [values.rounds, values.batches, values.submitters].map(Number);
  if (![rounds, batches, submitters].every((n) => Number.isInteger(n) && n >= 1))
    throw new Error('--rounds, --batches and --submitters: expected 1 or more.');
  const dataDir = mkdtempSync(join(tmpdir(), 'freehold-bench-'));
  const postgres = await startPostgres({ dataDir, settings: { synchronous_commit: 'on', fsync: 'on' } });
  const database = await openDatabase({ url: postgres.socketUrl, poolSize: 8 });
  try {
    await migrate(database);
    await database.query('INSERT INTO org (id, name) VALUES ($1, $1)', [ORG]);
    await database.query('INSERT INTO api_key (id, org_id, hash, hint) VALUES ($1, $2, $3, $1)', [
      KEY,
      ORG,
      Buffer.alloc(32),
    ]);
    await database.query(
      `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256) VALUES ($1, $2, 'batch', 'in.jsonl', 1, $3)`,
      [FILE, ORG, Buffer.alloc(32)],
    );
    return await measure(database, { rounds, batches, submitters }, json ? () => undefined : console.log);
  } finally {
    await database.close();
    await postgres.stop('fast');
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/**
 * @param {Database} database
 * @param {{ rounds: number; batches: number; submitters: number }} size
 * @param {(text: string) => void} say
 */
async function measure(database, { rounds, batches, submitters }, say) {
  const stores = { shared: new PgJobStore(database), alone: new PgJobStore(database, undefined, 0) };
  /** @type {Record<keyof typeof stores, Round[]>} */
  const measured = { shared: [], alone: [] };
  const statements = countStatements();
  await takeAll(stores.shared, 'warm', 50, submitters);
  for (let round = 1; round <= rounds; round += 1) {
    for (const name of /** @type {const} */ (['shared', 'alone'])) {
      const store = stores[name];
      const before = { cpu: cpuSecondsOfTree(), statements: statements(), wall: performance.now() };
      await takeAll(store, `${name}${round}`, batches, submitters);
      const one = {
        cpu: cpuSecondsOfTree() - before.cpu,
        statements: statements() - before.statements,
        wall: (performance.now() - before.wall) / 1_000,
      };
      measured[name].push(one);
      say(
        `  round ${round} ${name.padEnd(7)} ${batches} batches of ${ROWS_PER_BATCH} rows in ${one.wall.toFixed(2)} s, ${one.cpu.toFixed(2)} CPU-s, ${one.statements} statements`,
      );
    }
  }
  await assertTaken(database, 50 + 2 * rounds * batches);
  const of = (/** @type {keyof typeof stores} */ name, /** @type {keyof Round} */ key) =>
    median(measured[name].map((one) => one[key]));
  const ratio = (/** @type {keyof Round} */ key) =>
    rounded(median(measured.alone.map((one, i) => one[key] / measured.shared[i][key])));
  const rows = batches * ROWS_PER_BATCH;
  const metrics = {
    statementsRatio: ratio('statements'),
    cpuRatio: ratio('cpu'),
    wallRatio: ratio('wall'),
    statementsPerBatch: {
      shared: rounded(of('shared', 'statements') / batches),
      alone: rounded(of('alone', 'statements') / batches),
    },
    cpuMsPerBatch: {
      shared: rounded((of('shared', 'cpu') * 1_000) / batches),
      alone: rounded((of('alone', 'cpu') * 1_000) / batches),
    },
    cpuSecondsPer1000Rows: {
      shared: rounded((of('shared', 'cpu') * 1_000) / rows, 4),
      alone: rounded((of('alone', 'cpu') * 1_000) / rows, 4),
    },
    batchesPerSecond: {
      shared: Math.round(batches / of('shared', 'wall')),
      alone: Math.round(batches / of('alone', 'wall')),
    },
    rounds,
    batches,
    submitters,
  };
  const pass = metrics.statementsRatio >= FLOOR.statementsRatio && metrics.cpuRatio >= FLOOR.cpuRatio;
  return { metrics, floor: FLOOR, target: {}, pass };
}

/**
 * So many submitters, each with one batch at a time: taken, acknowledged, read, its rows written.
 *
 * @param {PgJobStore} store
 * @param {string} name
 * @param {number} batches
 * @param {number} submitters
 */
async function takeAll(store, name, batches, submitters) {
  let next = 0;
  const submit = async () => {
    while (next < batches) {
      const id = `batch_${name}_${next++}`;
      const made = await store.submitBatch(newBatch(id), null);
      if (made.outcome !== 'made') throw new Error(`${id} was ${made.outcome}`);
      const rows = Array.from({ length: ROWS_PER_BATCH }, (_, rowNo) => ({
        rowNo,
        customId: `row-${rowNo}`,
        offset: rowNo * 300,
        length: 299,
      }));
      if (!(await store.addRows(id, rows))) throw new Error(`${id} takes no rows`);
    }
  };
  await Promise.all(Array.from({ length: submitters }, submit));
}

/**
 * @param {string} id
 * @returns {NewBatch}
 */
function newBatch(id) {
  return {
    id,
    orgId: ORG,
    keyId: KEY,
    endpoint: '/v1/chat/completions',
    inputFileId: FILE,
    completionWindow: '24h',
    metadata: {},
    verify: 'spot',
    region: null,
    priority: 0,
    deadlineInMs: 86_400_000,
  };
}

/**
 * @param {Database} database
 * @param {number} jobs
 */
async function assertTaken(database, jobs) {
  const [found] = /** @type {Record<'jobs' | 'messages' | 'rows' | 'wrong', number>[]} */ (
    await database.query(
      `SELECT (SELECT count(*) FROM job)::int AS jobs, (SELECT count(*) FROM outbox WHERE topic = 'validate')::int AS messages,
       (SELECT count(*) FROM job_row)::int AS rows,
       (SELECT count(*) FROM (SELECT job_id FROM job_row GROUP BY 1 HAVING count(*) <> $1) AS wrong)::int AS wrong`,
      [ROWS_PER_BATCH],
    )
  );
  const right =
    found.jobs === jobs && found.messages === jobs && found.rows === jobs * ROWS_PER_BATCH && found.wrong === 0;
  const { violations } = await runDoctor(database);
  // Nothing of it was relayed, on purpose: that is not what is measured.
  const real = violations.filter(({ check }) => !/outbox/.test(check));
  if (!right || real.length > 0)
    throw new Error(`what was taken is not what was sent: ${JSON.stringify({ found, violations: real.slice(0, 3) })}`);
}

/** Everything that goes to the server, BEGIN and COMMIT included. */
function countStatements() {
  let count = 0;
  /** @type {(...given: unknown[]) => unknown} */
  const query = Reflect.get(pg.Client.prototype, 'query');
  const counted = new Proxy(query, {
    apply: (target, self, given) => {
      count += 1;
      return Reflect.apply(target, self, given);
    },
  });
  Reflect.set(pg.Client.prototype, 'query', counted);
  return () => count;
}
