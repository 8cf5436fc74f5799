/**
 * What the truth costs a row: grant → start → checkpoint → draw → accept over leases of 64 rows, on a real PostgreSQL
 * with fsync on, no network and no engine. The result is checked by the doctor before the time is believed.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GrowingTree, ledger } from '@freehold/domain';
import { grantCredits, migrate, openDatabase, PgLeaseStore, post, runDoctor } from '@freehold/persistence';
import { startPostgres } from '@freehold/wiring/embedded';
import { bareOffer } from './house/bare-offer.mjs';

/**
 * @import { Acceptance, GrantedLease, LeaseWish } from '@freehold/market'
 * @import { Database } from '@freehold/persistence'
 *
 * @typedef {{ readonly id: string; readonly node: string }} BenchJob
 * @typedef {Record<'grant' | 'start' | 'checkpoint' | 'draw' | 'accept', number>} Spent
 */

const ROWS_PER_LEASE = 64;
const JOBS = 4;
const LEASES_PER_JOB = 50;
const LEASE_MS = 60_000;
/** Granted in one call, as one placement decides for many slots. */
const GRANT_AT_ONCE = 10;

export async function run() {
  const dataDir = mkdtempSync(join(tmpdir(), 'freehold-bench-'));
  const postgres = await startPostgres({ dataDir });
  try {
    return await measure(postgres.socketUrl);
  } finally {
    await postgres.stop('fast');
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** @param {string} url */
async function measure(url) {
  const database = await openDatabase({ url, poolSize: JOBS });
  try {
    await migrate(database);
    const store = new PgLeaseStore(database);
    const jobs = await fill(database, store);
    /** @type {Spent} */
    const spent = { grant: 0, start: 0, checkpoint: 0, draw: 0, accept: 0 };
    const startedAt = performance.now();
    await Promise.all(jobs.map((job) => runJob(store, job, spent)));
    const seconds = (performance.now() - startedAt) / 1_000;
    const leases = JOBS * LEASES_PER_JOB;
    const [done] = /** @type {{ rows: number; charged: string }[]} */ (
      await database.query('SELECT sum(rows_succeeded)::int AS rows, sum(charged)::text AS charged FROM job')
    );
    const report = await runDoctor(database);
    if (
      done.rows !== leases * ROWS_PER_LEASE ||
      done.charged !== String(done.rows * 10) ||
      report.violations.length > 0
    ) {
      throw new Error(
        `the work is not right, so its time says nothing: ${JSON.stringify({ done, violations: report.violations.slice(0, 3) })}`,
      );
    }
    const msOf = (/** @type {keyof Spent} */ step) => Math.round((spent[step] / leases) * 100) / 100;
    const metrics = {
      rowsPerSecond: Math.round(done.rows / seconds),
      leasesPerSecond: Math.round(leases / seconds),
      grantMs: msOf('grant'),
      startMs: msOf('start'),
      checkpointMs: msOf('checkpoint'),
      drawMs: msOf('draw'),
      acceptMs: msOf('accept'),
    };
    return {
      metrics,
      floor: { rowsPerSecond: 1_000 },
      target: { rowsPerSecond: 5_000 },
      pass: metrics.rowsPerSecond >= 1_000,
    };
  } finally {
    await database.close();
  }
}

/**
 * @param {Database} database
 * @param {PgLeaseStore} store
 */
async function fill(database, store) {
  const org = 'org_bench';
  const node = 'node1benchbenchbenchbench';
  await database.query('INSERT INTO org (id, name) VALUES ($1, $1)', [org]);
  await grantCredits(database, org, 1_000_000_000n, 'bench');
  await store.rememberNode(bareOffer(node, 'be'.repeat(20), 3_600));
  const rows = LEASES_PER_JOB * ROWS_PER_LEASE;
  const jobs = Array.from({ length: JOBS }, (_, i) => ({ id: `batch_bench${i}`, node }));
  for (const { id } of jobs) {
    await database.transaction(async (tx) => {
      await tx.query(
        `INSERT INTO job (id, org_id, kind, state, endpoint, model, cap, row_count, deadline)
         VALUES ($1, $2, 'batch', 'in_progress', '/v1/embeddings', 'm', $3, $4, now() + interval '1 day')`,
        [id, org, rows * 10, rows],
      );
      await tx.query(
        `INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
         SELECT $1, min(n), array_agg('row-' || n ORDER BY n), array_agg(n ORDER BY n), array_agg(1)
         FROM generate_series(0, $2::int - 1) n GROUP BY n / 64`,
        [id, rows],
      );
      await post(tx, [ledger.hold(org, id, BigInt(rows * 10))]);
    });
  }
  return jobs;
}

/**
 * @param {PgLeaseStore} store
 * @param {BenchJob} job
 * @param {Spent} spent
 */
async function runJob(store, { id, node }, spent) {
  /**
   * @template T
   * @param {keyof Spent} step
   * @param {() => Promise<T>} work
   */
  const timed = async (step, work) => {
    const startedAt = performance.now();
    const result = await work();
    spent[step] += performance.now() - startedAt;
    return result;
  };
  for (let at = 0; at < LEASES_PER_JOB; at += GRANT_AT_ONCE) {
    const wishes = Array.from({ length: GRANT_AT_ONCE }, (_, i) => wishOf(id, node, (at + i) * ROWS_PER_LEASE));
    const leases = await timed('grant', () => store.grant(wishes, LEASE_MS));
    for (const lease of leases) {
      const { rows, root } = workOf(lease);
      await timed('start', () => store.start(lease));
      const checkpoint = { n: ROWS_PER_LEASE, root, signature: `0x${'00'.repeat(65)}`, last: true, drawHeight: 1n };
      await timed('checkpoint', () => store.checkpoint(lease, rows, checkpoint));
      await timed('draw', async () => {
        await store.saveDraw(lease, root, [lease.rowFrom]);
        await store.saveFindings(lease, [
          {
            rowNo: lease.rowFrom,
            auditor: 'a',
            auditorKind: 'coordinator',
            verdict: 'good',
            sameClass: true,
            score: {},
          },
        ]);
      });
      await timed('accept', () => store.accept(acceptanceOf(lease, root)));
    }
  }
}

/**
 * @param {string} jobId
 * @param {string} nodeId
 * @param {number} rowFrom
 * @returns {LeaseWish}
 */
function wishOf(jobId, nodeId, rowFrom) {
  const nonce = `0x${randomBytes(16).toString('hex')}`;
  const model = { model: 'm', digest: 'declared:m', engineClass: 'bench', rates: { embeddingToken: 1_000_000n } };
  return { jobId, taskId: null, epoch: 1, rowFrom, rowTo: rowFrom + ROWS_PER_LEASE, nodeId, nonce, ...model };
}

/** @param {GrantedLease} lease */
function workOf(lease) {
  const tree = new GrowingTree();
  const rows = Array.from({ length: ROWS_PER_LEASE }, (_, i) => {
    const leafHash = randomBytes(32);
    tree.addHash(leafHash);
    return {
      rowNo: lease.rowFrom + i,
      offset: i * 100,
      length: 100,
      leafHash,
      succeeded: true,
      usage: { embeddingToken: 10n },
    };
  });
  return { rows, root: `0x${Buffer.from(tree.root()).toString('hex')}` };
}

/**
 * @param {GrantedLease} lease
 * @param {string} root
 * @returns {Acceptance}
 */
function acceptanceOf({ task, epoch }, root) {
  const tokens = BigInt(ROWS_PER_LEASE * 10);
  const rows = { rows: ROWS_PER_LEASE, rowsSucceeded: ROWS_PER_LEASE, audited: 1 };
  const document = (/** @type {bigint} */ charge, /** @type {bigint} */ fee) => ({
    task,
    charge: String(charge),
    fee: String(fee),
  });
  return {
    task,
    epoch,
    ...rows,
    draw: 'coordinator',
    usage: { embeddingToken: tokens },
    due: tokens,
    feeBps: 500,
    root,
    document,
  };
}
