import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { ReadBatch } from '@freehold/market';
import { isCheckViolation, isUniqueViolation, PgJobStore } from '@freehold/persistence';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { LEASE_MS, MarketWorld } from '../../libs/persistence/test/market-world.ts';

/** The last wall: what the database refuses whatever code asks for it. */
let server: MarketDatabase;
let world: MarketWorld;

beforeAll(async () => {
  server = await marketDatabase();
  world = new MarketWorld(server.database);
});
afterAll(() => server.close());

async function refusal(sql: string, params: readonly unknown[]): Promise<unknown> {
  return server.database.query(sql, params).then(
    () => null,
    (error: unknown) => error,
  );
}

it('refuses a second receipt for a task', async () => {
  const job = await world.batch(4);
  const lease = await world.lease(job, await world.node(), 0, 4);
  await world.deliver(lease);
  expect(await world.accept(lease)).toMatchObject({ moved: true });
  const again = await refusal(
    `INSERT INTO receipt (task_id, epoch, job_id, org_id, node_id, payout, root, rows, rows_succeeded, audited, draw, usage, rates, charge, fee, document)
     SELECT task_id, epoch, job_id, org_id, node_id, payout, root, rows, rows_succeeded, audited, draw, usage, rates, charge, fee, document FROM receipt WHERE task_id = $1`,
    [lease.task],
  );
  expect(isUniqueViolation(again)).toBe(true);
});

it('refuses money from nowhere, when the transaction commits', async () => {
  await world.org();
  const off = await refusal(
    `WITH t AS (INSERT INTO ledger_transaction (kind, ref) VALUES ('credit', 'from nowhere') RETURNING id)
     INSERT INTO posting (transaction_id, account_id, asset, amount) SELECT t.id, account.id, 'money', 5 FROM t, account WHERE kind = 'balance' LIMIT 1`,
    [],
  );
  expect(isCheckViolation(off)).toBe(true);
});

it('refuses to charge a job above its cap, and to spend what is not there', async () => {
  const job = await world.batch(4);
  expect(isCheckViolation(await refusal('UPDATE job SET charged = cap + 1 WHERE id = $1', [job]))).toBe(true);
  expect(isCheckViolation(await refusal(`UPDATE account SET balance = -1 WHERE kind = 'balance'`, []))).toBe(true);
});

it('refuses to rewrite what was booked', async () => {
  expect(await refusal('UPDATE posting SET amount = amount + 1', [])).not.toBeNull();
  expect(await refusal('DELETE FROM ledger_transaction', [])).not.toBeNull();
  expect(await refusal('DELETE FROM receipt', [])).not.toBeNull();
});

const ROW = 'INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)';
const LEASE =
  'INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)';
const REST = `decode(repeat('00', 16), 'hex'), 'm', 'd', 'c', '{}', 'batch', now()`;
const NOT_THERE = { code: '23503' };

it('refuses rows, tasks and leases of what is not there, one among a thousand', async () => {
  const [job, node, stranger] = [await world.batch(4), await world.node(), await world.org()];
  const other = await world.batch(4);
  const lease = await world.lease(job, node, 0, 4);
  const orphans: readonly (readonly [sql: string, params: readonly unknown[]])[] = [
    [
      `${ROW} SELECT CASE n WHEN 700 THEN 'batch_nobodys' ELSE $1 END, n, ARRAY['new' || n], '{0}', '{1}' FROM generate_series(10, 1000) n`,
      [job],
    ],
    [`INSERT INTO task (job_id, org_id, row_from, row_to) VALUES ('batch_nobodys', $1, 0, 1)`, [stranger]],
    [`INSERT INTO task (job_id, org_id, row_from, row_to) VALUES ($1, $2, 0, 1)`, [job, stranger]],
    [
      `INSERT INTO task (job_id, org_id, row_from, row_to, pool_id) SELECT id, org_id, 0, 1, 'pool_nobodys' FROM job WHERE id = $1`,
      [job],
    ],
    [
      `INSERT INTO task (job_id, org_id, row_from, row_to, last_node) SELECT id, org_id, 0, 1, 'nobody' FROM job WHERE id = $1`,
      [job],
    ],
    [`${LEASE} SELECT $1, 2, 'nobody', $2, ${REST}`, [lease.task, job]],
    [`${LEASE} SELECT gen_random_uuid(), 1, $1, $2, ${REST}`, [node, job]],
    [`${LEASE} SELECT $1, 2, $2, $3, ${REST}`, [lease.task, node, other]],
    [`UPDATE task SET last_node = 'nobody' WHERE id = $1`, [lease.task]],
  ];
  for (const [sql, params] of orphans)
    expect([sql, await refusal(sql, params)]).toEqual([sql, expect.objectContaining(NOT_THERE)]);
});

it('refuses to take away, or to give to another, what others refer to', async () => {
  const [job, node] = [await world.batch(4), await world.node()];
  const other = await world.batch(4);
  const { task } = await world.lease(job, node, 0, 4);
  const rewrites: readonly (readonly [sql: string, params: readonly unknown[]])[] = [
    ['DELETE FROM job WHERE id = $1', [other]],
    [`UPDATE job SET id = 'batch_renamed' WHERE id = $1`, [other]],
    ['DELETE FROM node WHERE id = $1', [node]],
    [`UPDATE node SET id = 'renamed' WHERE id = $1`, [node]],
    ['DELETE FROM task WHERE id = $1', [task]],
    ['UPDATE task SET id = gen_random_uuid() WHERE id = $1', [task]],
    ['TRUNCATE task', []],
    ['UPDATE row_block SET job_id = $2, row_from = 9 WHERE job_id = $1 AND row_from = 0', [job, other]],
    ['UPDATE task SET job_id = $2 WHERE id = $1', [task, other]],
    ['UPDATE lease SET node_id = $2 WHERE task_id = $1', [task, await world.node()]],
  ];
  for (const [sql, params] of rewrites)
    expect([sql, await refusal(sql, params)]).toEqual([sql, expect.objectContaining(NOT_THERE)]);
  const [empty] = await server.database.query<{ id: string }>(
    `INSERT INTO job (id, org_id, kind, state, endpoint, deadline) SELECT 'batch_empty', org_id, kind, 'failed', endpoint, now() FROM job WHERE id = $1 RETURNING id`,
    [job],
  );
  expect(await refusal('DELETE FROM job WHERE id = $1', [empty?.id])).toBeNull();
});

it('lets no job go while a row of it is being written', async () => {
  const job = await world.batch(0);
  let gone: Promise<unknown> = Promise.resolve();
  await server.database.transaction(async (tx) => {
    await tx.query(`${ROW} VALUES ($1, 0, '{r}', '{0}', '{1}')`, [job]);
    gone = refusal('DELETE FROM job WHERE id = $1', [job]);
    await waitsForALock();
  });
  expect(await gone).toMatchObject(NOT_THERE);
});

it('keeps no rows of a batch that expires while they are written', async () => {
  const [org, id] = [await world.org(), 'batch_late'];
  await server.database.query(
    `INSERT INTO job (id, org_id, kind, state, endpoint, deadline)
     VALUES ($1, $2, 'batch', 'validating', '/v1/embeddings', now() - interval '1 second')`,
    [id, org],
  );
  let expired: Promise<unknown> = Promise.resolve();
  await server.database.transaction(async (tx) => {
    await tx.query('SELECT 1 FROM job WHERE id = $1 FOR NO KEY UPDATE', [id]);
    await tx.query(`${ROW} VALUES ($1, 0, '{r}', '{0}', '{1}')`, [id]);
    expired = world.store.expireJobs();
    await waitsForALock();
  });
  await expired;
  expect(await server.database.query('SELECT 1 FROM row_block WHERE job_id = $1', [id])).toEqual([]);
});

async function waitsForALock(): Promise<void> {
  for (let look = 0; look < 1_000; look += 1) {
    const [one] = await server.database.query(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    if (one !== undefined) return;
  }
  throw new Error('nobody waits for a lock');
}

it('logs every move of a statement over many tasks, and none of what did not move', async () => {
  const [job, node] = [await world.batch(300), await world.node()];
  const wishes = Array.from({ length: 300 }, (_, n) => world.wish(job, node, n, n + 1));
  const leases = await world.store.grant(wishes, LEASE_MS);
  expect(leases).toHaveLength(300);
  await server.database.query(`UPDATE task SET state = 'running' WHERE job_id = $1`, [job]);
  await server.database.query('UPDATE task SET attempts = attempts + 1 WHERE job_id = $1', [job]);
  const moves = await server.database.query(
    `SELECT from_state, to_state, line.epoch, count(*)::int AS lines, count(DISTINCT task.id)::int AS tasks
     FROM task_event AS line JOIN task ON task.id = ANY(task_ids) AND task.job_id = line.job_id
     WHERE line.job_id = $1 GROUP BY 1, 2, 3 ORDER BY min(line.id)`,
    [job],
  );
  // A line of the log counts once for each of its tasks here.
  expect(moves).toEqual([
    { from_state: null, to_state: 'leased', epoch: 1, lines: 300, tasks: 300 },
    { from_state: 'leased', to_state: 'running', epoch: 1, lines: 300, tasks: 300 },
  ]);
  const [log] = await server.database.query('SELECT count(*)::int AS lines FROM task_event WHERE job_id = $1', [job]);
  expect(log).toEqual({ lines: 2 });
});

it('tells each move once, and one that is committed late when it is', async () => {
  const [job, late, other] = [await world.batch(2), await world.node(), await world.node()];
  const lease = await world.lease(job, late, 0, 1);
  const before = await world.store.moved(null);
  let meanwhile = before;
  await server.database.transaction(async (tx) => {
    await tx.query(`UPDATE task SET state = 'delivered' WHERE id = $1`, [lease.task]);
    await world.lease(job, other, 1, 2);
    meanwhile = await world.store.moved(before.cursor);
  });
  const then = await world.store.moved(meanwhile.cursor);
  const last = await world.store.moved(then.cursor);
  expect([meanwhile.nodeIds, then.nodeIds, last.nodeIds]).toEqual([[other], [late], []]);
});

it('tells what was filed for the placement with its job, and nothing before the first cursor', async () => {
  const file = async (jobId: string) => {
    const [row] = await server.database.query<{ outboxId: string }>(
      `INSERT INTO outbox (topic, message) VALUES ('place', jsonb_build_object('job', $1::text)) RETURNING id::text AS "outboxId"`,
      [jobId],
    );
    return { ...row, jobId };
  };
  await file('job-0');
  const { cursor, filed } = await world.store.moved(null);
  expect(filed).toEqual([]);
  const messages = [];
  // Over a power of ten: texts of numbers have another order than numbers.
  for (let i = 1; i <= 12; i += 1) messages.push(await file(`job-${i}`));
  await server.database.query(
    `SELECT setval(pg_get_serial_sequence('outbox', 'id'), nextval(pg_get_serial_sequence('outbox', 'id')) + 95)`,
  );
  messages.push(await file('job-13'));
  const then = await world.store.moved(cursor);
  expect(then.filed.slice(-messages.length)).toEqual(messages);
});

it('starts no batch that has a custom_id twice', async () => {
  const org = await world.org();
  const [job] = await server.database.query<{ id: string }>(
    `INSERT INTO job (id, org_id, kind, state, endpoint, deadline)
     VALUES ('batch_twice', $1, 'batch', 'validating', '/v1/embeddings', now() + interval '1 hour') RETURNING id`,
    [org],
  );
  await server.database.query(`${ROW} VALUES ($1, 0, '{a,b}', '{0,1}', '{1,1}'), ($1, 2, '{a}', '{2}', '{1}')`, [
    job?.id,
  ]);
  const jobs = new PgJobStore(server.database);
  const start = (): Promise<unknown> =>
    jobs.start('batch_twice', {
      model: 'm',
      tuned: null,
      rowCount: 3,
      cap: 3n,
      rateCaps: {},
      counted: null,
      worst: { embeddingToken: 1n },
      promptBlocks: [],
    });
  await expect(start()).rejects.toThrow('3 rows stored under 2 custom_ids');
  await server.database.query(`UPDATE row_block SET custom_ids = '{c}' WHERE job_id = $1 AND row_from = 2`, [job?.id]);
  expect(await start()).toEqual({ started: true });

  await server.database.query(`INSERT INTO api_key (id, org_id, hash, hint) VALUES ('key_twice', $1, '\\x00', 'k')`, [
    org,
  ]);
  await server.database.query(
    `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256) VALUES ('file-twice000', $1, 'batch', 'in', 3, decode(repeat('00', 32), 'hex'))`,
    [org],
  );
  const begin = (...ids: string[]): Promise<{ outcome: string }> => {
    const batch: ReadBatch = {
      id: `batch_${ids.join('')}`,
      orgId: org,
      keyId: 'key_twice',
      endpoint: '/v1/embeddings',
      inputFileId: 'file-twice000',
      completionWindow: '24h',
      metadata: {},
      verify: 'spot',
      region: null,
      priority: 0,
      deadlineInMs: 60_000,
      expectedS: null,
      plan: { model: 'm', tuned: null, rowCount: 3, cap: 3n, rateCaps: {}, counted: null, worst: {}, promptBlocks: [] },
      rows: ids.map((customId, n) => ({ rowNo: n, customId, offset: n, length: 1 })),
    };
    return jobs.beginBatch(batch, null);
  };
  expect(await begin('a', 'b', 'a')).toEqual({ outcome: 'refused' });
  expect(await begin('a', 'b', 'c')).toMatchObject({ outcome: 'made' });
});
