/**
 * From the request that submits a batch to its lease (G10), through a running house at half load: HTTP, PostgreSQL, the queue,
 * validation of the input file, the scheduler's decision, the lease written. First it is found out how many batches of one row
 * the house takes in a second when it is asked without pause; then they come at random, half as many.
 *
 *   npm run bench -- latency [--seconds N]
 *
 * A lease's time is the database's when it is written; what commits it does not wait for anything but the log.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import OpenAI, { toFile } from 'openai';
import { openDatabase, runDoctor } from '@freehold/persistence';
import { cpuMsByPart, percentile, withHouse } from './house/market-house.mjs';

/**
 * @import pg from 'pg'
 * @import { House } from '../../apps/devnet/dist/house/house.js'
 *
 * @typedef {{ readonly id: string; readonly atMs: number; readonly answeredMs: number }} Submitted
 * @typedef {{ answeredMs: number; takenMs: number; validatedMs: number; leasedMs: number }} Sample
 * @typedef {{ id: string; granted: number | null; created: number; started: number; state: string }} LeaseRow
 */

const NODES = 2;
const WARM_UP = 20;
const SATURATE_S = 6;
const IN_FLIGHT = 8;
const LEASED_WITHIN_MS = 10_000;
const ENDED_WITHIN_MS = 60_000;
const FLOOR = { p99Ms: 250 };
const TARGET = { p50Ms: 15, p99Ms: 50 };

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({ args: [...args], options: { seconds: { type: 'string', default: '20' } } });
  const seconds = Number(values.seconds);
  if (!(seconds >= 1 && seconds <= 600)) throw new Error('--seconds: expected a number from 1 to 600.');
  const say = (/** @type {string} */ text) => json || console.log(text);
  const rates = { embeddingToken: '15000' };
  const nodes = Array.from({ length: NODES }, (_, i) => ({ name: `embed-${i}`, engine: 'use-lite', rates }));
  return withHouse({ nodes, say }, async ({ house, db }) => {
    const client = new OpenAI({ baseURL: house.baseURL, apiKey: house.requester.apiKey, maxRetries: 0 });
    const submit = await submitter(client);
    for (let i = 0; i < WARM_UP; i += 1) await leaseOf(db, await submit());
    const most = await saturated(submit, db);
    const perSecond = most / 2;
    say(`  ${most.toFixed(1)} batches a second without pause; measured at ${perSecond.toFixed(1)}`);
    const [before, from] = [cpuMsByPart(), performance.now()];
    const samples = await atRandom({ submit, db, perSecond, seconds });
    const wallSeconds = (performance.now() - from) / 1_000;
    const spent = Object.entries(cpuMsByPart()).map(
      ([part, ms]) => /** @type {const} */ ([part, (ms - (before[part] ?? 0)) / 1_000]),
    );
    say(
      `  ${samples.length} batches in ${wallSeconds.toFixed(1)} s; CPU-s: ${spent.map(([part, cpu]) => `${part} ${cpu.toFixed(2)}`).join(', ')}`,
    );
    const of = (/** @type {keyof Sample} */ key, /** @type {number} */ share) =>
      Math.round(
        10 *
          percentile(
            samples.map((one) => one[key]),
            share,
          ),
      ) / 10;
    await assertInOrder(house, db);
    const metrics = {
      p50Ms: of('leasedMs', 0.5),
      p99Ms: of('leasedMs', 0.99),
      answeredP50Ms: of('answeredMs', 0.5),
      takenP50Ms: of('takenMs', 0.5),
      validatedP50Ms: of('validatedMs', 0.5),
      batches: samples.length,
      perSecond: Math.round(10 * perSecond) / 10,
      perSecondWithoutPause: Math.round(10 * most) / 10,
      wallSeconds: Math.round(100 * wallSeconds) / 100,
      cpuSecondsByProcess: Object.fromEntries(spent.map(([part, cpu]) => [part, Math.round(100 * cpu) / 100])),
    };
    return { metrics, floor: FLOOR, target: TARGET, pass: metrics.p99Ms <= FLOOR.p99Ms };
  });
}

/** Batches that are not what they should be at the end: one row, leased by a lease that was accepted, and answered. */
const UNFINISHED = `
SELECT job.id, job.state, job.rows_succeeded AS succeeded,
  coalesce(sum(t.row_to - t.row_from) FILTER (WHERE l.outcome = 'accepted'), 0)::int AS accepted
FROM job LEFT JOIN task t ON t.job_id = job.id LEFT JOIN lease l ON l.task_id = t.id
GROUP BY job.id
HAVING job.state <> 'completed' OR job.rows_succeeded <> 1
  OR coalesce(sum(t.row_to - t.row_from) FILTER (WHERE l.outcome = 'accepted'), 0) <> 1`;

/**
 * A lease that comes soon is worth nothing where it is one too many or leads nowhere: every batch ends with its row accepted once, and
 * the books are right.
 *
 * @param {House} house
 * @param {pg.Pool} db
 */
async function assertInOrder({ databaseUrl }, db) {
  const until = performance.now() + ENDED_WITHIN_MS;
  for (;;) {
    /** @type {{ rows: { id: string; state: string; succeeded: number; accepted: number }[] }} */
    const { rows } = await db.query(UNFINISHED);
    if (rows.length === 0) break;
    if (performance.now() > until)
      throw new Error(`${rows.length} batches did not end as they should: ${JSON.stringify(rows.slice(0, 3))}`);
    await sleep(250);
  }
  const database = await openDatabase({ url: databaseUrl, poolSize: 1 });
  try {
    const { violations } = await runDoctor(database);
    if (violations.length > 0)
      throw new Error(`the books are not right, so the time says nothing: ${JSON.stringify(violations.slice(0, 3))}`);
  } finally {
    await database.close();
  }
}

/**
 * Submits one row again and again: the input file is there already, as it is for whoever uses the Files API.
 *
 * @param {OpenAI} client
 * @returns {Promise<() => Promise<Submitted>>}
 */
async function submitter(client) {
  const line = JSON.stringify({
    custom_id: 'row',
    method: 'POST',
    url: '/v1/embeddings',
    body: { model: (await client.models.list()).data.find(({ id }) => /use|sentence/i.test(id))?.id, input: 'a row' },
  });
  const file = await client.files.create({
    file: await toFile(Buffer.from(`${line}\n`), 'row.jsonl'),
    purpose: 'batch',
  });
  /** @type {OpenAI.BatchCreateParams} */
  const batch = {
    input_file_id: file.id,
    endpoint: '/v1/embeddings',
    completion_window: '24h',
    // Audits of rows that ended long ago would be most of the load.
    metadata: { verify: 'off' },
  };
  return async () => {
    const atMs = performance.timeOrigin + performance.now();
    const { id } = await client.batches.create(batch);
    return { id, atMs, answeredMs: performance.timeOrigin + performance.now() - atMs };
  };
}

const LEASES = `
SELECT job.id, 1000 * extract(epoch FROM min(l.granted_at))::float8 AS granted, 1000 * extract(epoch FROM job.created_at)::float8 AS created,
  1000 * extract(epoch FROM job.in_progress_at)::float8 AS started, job.state
FROM job LEFT JOIN lease l ON l.job_id = job.id WHERE job.id = ANY($1) GROUP BY job.id`;

/**
 * What became of submissions; looked for often enough to wait for them, and seldom enough to cost nothing.
 *
 * @param {pg.Pool} db
 * @param {readonly Submitted[]} submitted
 * @returns {Promise<Sample[]>}
 */
async function leasesOf(db, submitted) {
  const until = performance.now() + LEASED_WITHIN_MS;
  for (;;) {
    /** @type {{ rows: LeaseRow[] }} */
    const { rows } = await db.query(LEASES, [submitted.map(({ id }) => id)]);
    const without = rows.filter(({ granted }) => granted === null);
    if (rows.length === submitted.length && without.length === 0) {
      const byId = Object.fromEntries(rows.map((row) => [row.id, row]));
      return submitted.map((one) => {
        const { granted, created, started } = byId[one.id];
        const { atMs, answeredMs } = one;
        return {
          answeredMs,
          takenMs: created - atMs,
          validatedMs: started - atMs,
          leasedMs: (granted ?? Number.NaN) - atMs,
        };
      });
    }
    if (performance.now() > until) {
      // The same answer to two submissions is a submission lost.
      const distinct = new Set(submitted.map(({ id }) => id)).size;
      const stand = without.map(({ id, state, created }) => `${id} ${state} since ${new Date(created).toISOString()}`);
      throw new Error(
        `${submitted.length} batches were taken under ${distinct} ids; ${rows.length} are there, ${without.length} of them without a lease after ${LEASED_WITHIN_MS / 1_000} s: ${stand.slice(0, 8).join(', ')}`,
      );
    }
    await sleep(20);
  }
}

/**
 * @param {pg.Pool} db
 * @param {Submitted} one
 */
async function leaseOf(db, one) {
  return (await leasesOf(db, [one]))[0];
}

/**
 * Batches a second with so many always on their way from the request to the lease.
 *
 * @param {() => Promise<Submitted>} submit
 * @param {pg.Pool} db
 */
async function saturated(submit, db) {
  const end = performance.now() + SATURATE_S * 1_000;
  let leased = 0;
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      while (performance.now() < end) {
        await leaseOf(db, await submit());
        leased += 1;
      }
    }),
  );
  return leased / SATURATE_S;
}

/**
 * Arrivals that know nothing of each other, nor of what is still under way.
 *
 * @param {{ submit: () => Promise<Submitted>; db: pg.Pool; perSecond: number; seconds: number }} load
 */
async function atRandom({ submit, db, perSecond, seconds }) {
  const underWay = [];
  const end = performance.now() + seconds * 1_000;
  let next = performance.now();
  while (next < end) {
    await sleep(Math.max(0, next - performance.now()));
    underWay.push(submit());
    next += (-1_000 * Math.log(1 - Math.random())) / perSecond;
  }
  return leasesOf(db, await Promise.all(underWay));
}
