import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { NewBatch, NewRow, NewStream, RequestIdentity } from '@freehold/market';
import pg from 'pg';
import { PgJobStore, runDoctor } from '../index.ts';
import { submitBatches } from './batches.ts';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { MarketWorld, RATES } from '../../test/market-world.ts';

let market: MarketDatabase;
let world: MarketWorld;
let jobs: PgJobStore;

beforeAll(async () => {
  market = await marketDatabase();
  world = new MarketWorld(market.database);
  jobs = new PgJobStore(market.database);
}, 60_000);
afterAll(() => market.close());

async function stream(orgId: string, of: Partial<NewStream> = {}): Promise<NewStream> {
  return {
    jobId: `chatcmpl-${randomBytes(12).toString('hex')}`,
    taskId: randomUUID(),
    orgId,
    keyId: await key(orgId, null),
    kind: 'chat',
    endpoint: '/v1/chat/completions',
    model: 'm',
    metadata: {},
    verify: 'spot',
    region: null,
    cap: 100n,
    rateCaps: RATES,
    inputLength: 10,
    leaseMs: 60_000,
    identity: null,
    nodeId: await world.node(),
    nonce: `0x${randomBytes(16).toString('hex')}`,
    digest: `sha256:${'0'.repeat(64)}`,
    engineClass: 'c',
    rates: RATES,
    ...of,
  };
}

async function key(orgId: string, dailyCap: bigint | null): Promise<string> {
  const id = `key_${randomUUID()}`;
  await market.database.query(`INSERT INTO api_key (id, org_id, hash, hint, daily_cap) VALUES ($1, $2, $3, 'h', $4)`, [
    id,
    orgId,
    randomBytes(32),
    dailyCap === null ? null : String(dailyCap),
  ]);
  return id;
}

function identity(of: Partial<RequestIdentity> = {}): RequestIdentity {
  return { key: `key:${randomUUID()}`, route: 'POST /x', bodyHash: Buffer.alloc(32, 1), replayWithinMs: 60_000, ...of };
}

/** How many statements go to the server while `work` runs. */
async function roundTrips(work: () => Promise<unknown>): Promise<number> {
  const asked = jest.spyOn(pg.Client.prototype, 'query');
  try {
    await work();
    return asked.mock.calls.length;
  } finally {
    asked.mockRestore();
  }
}

async function spendable(orgId: string): Promise<bigint> {
  const [row] = await market.database.query<{ balance: string }>(
    `SELECT balance FROM account WHERE kind = 'balance' AND owner = $1`,
    [orgId],
  );
  return BigInt(row?.balance ?? 0);
}

describe('opening a stream', () => {
  it('is one round trip to the database, with identity, daily cap, hold, job and lease', async () => {
    const org = await world.org();
    const request = await stream(org, { identity: identity(), keyId: await key(org, 1_000n) });
    expect(await roundTrips(() => jobs.openStream(request))).toBe(1);
    expect(await spendable(org)).toBe(999_900n);
    const [lease] = await market.database.query(
      `SELECT l.road, l.epoch, t.state, j.state AS job, j.cap, r.state AS row FROM lease l JOIN task t ON t.id = l.task_id
       JOIN job j ON j.id = l.job_id JOIN job_row r ON r.job_id = j.id WHERE l.task_id = $1`,
      [request.taskId],
    );
    expect(lease).toEqual({
      road: 'stream',
      epoch: 1,
      state: 'leased',
      job: 'in_progress',
      cap: '100',
      row: 'pending',
    });
    expect((await runDoctor(market.database)).violations).toEqual([]);
  });

  it('takes no more than the balance when many come at once', async () => {
    const org = await world.org(250n);
    const asked = await Promise.all(Array.from({ length: 8 }, () => stream(org)));
    const opened = await Promise.all(asked.map((one) => jobs.openStream(one)));
    expect(opened.filter((one) => one.opened)).toHaveLength(2);
    expect(opened.filter((one) => !one.opened)).toContainEqual({
      opened: false,
      why: 'insufficient-balance',
      balance: 50n,
    });
    expect(await spendable(org)).toBe(50n);
  });

  it("takes no more than the key's daily cap when many come at once, and forgets who was refused", async () => {
    const org = await world.org();
    const keyId = await key(org, 250n);
    const who = identity();
    const asked = await Promise.all(Array.from({ length: 6 }, () => stream(org, { keyId })));
    const opened = await Promise.all(asked.map((one) => jobs.openStream(one)));
    expect(opened.filter((one) => one.opened)).toHaveLength(2);
    expect(await jobs.openStream(await stream(org, { keyId, identity: who }))).toEqual({
      opened: false,
      why: 'daily-cap',
      balance: 50n,
    });
    const other = await stream(org, { identity: who });
    expect(await jobs.openStream(other)).toEqual({ opened: true });
  });

  it('opens once when the same request comes many times at once', async () => {
    const org = await world.org();
    const who = identity();
    const asked = await Promise.all(Array.from({ length: 6 }, () => stream(org, { identity: who })));
    const opened = await Promise.all(asked.map((one) => jobs.openStream(one)));
    const first = asked[opened.findIndex((one) => one.opened)];
    expect(opened.filter((one) => one.opened)).toHaveLength(1);
    expect(opened.filter((one) => !one.opened)).toEqual(
      Array.from({ length: 5 }, () => ({ opened: false, why: 'repeated', jobId: first?.jobId })),
    );
    expect(await spendable(org)).toBe(999_900n);
    const other = await stream(org, { identity: { ...who, bodyHash: Buffer.alloc(32, 2) } });
    expect(await jobs.openStream(other)).toEqual({ opened: false, why: 'key-reused' });
  });

  it('is done anew when the first try ended without an answer', async () => {
    const org = await world.org();
    const who = identity();
    const first = await stream(org, { identity: who });
    await jobs.openStream(first);
    await jobs.failStream({ task: first.taskId, epoch: 1 }, 'node_failed', 'gone');
    expect(await jobs.openStream(await stream(org, { identity: who }))).toEqual({ opened: true });
    expect(await spendable(org)).toBe(999_900n);
  });
});

describe('batches that come at once', () => {
  const batchOf = (orgId: string, keyId: string, fileId: string): NewBatch => ({
    id: `batch_${randomBytes(16).toString('hex')}`,
    orgId,
    keyId,
    endpoint: '/v1/embeddings',
    inputFileId: fileId,
    completionWindow: '24h',
    metadata: {},
    verify: 'spot',
    region: null,
    priority: 1,
    deadlineInMs: 3_600_000,
  });

  /** An organisation with a key and an input file. */
  const submitter = async (): Promise<{ org: string; keyId: string; fileId: string }> => {
    const org = await world.org();
    const [keyId, fileId] = [await key(org, null), `file-${randomBytes(8).toString('hex')}`];
    await market.database.query(
      `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256) VALUES ($1, $2, 'batch', 'in', 1, $3)`,
      [fileId, org, Buffer.alloc(32)],
    );
    return { org, keyId, fileId };
  };

  it('make one batch of one identity in one commit, and refuse another body under it', async () => {
    const { org, keyId, fileId } = await submitter();
    const who = identity();
    const submitted = [1, 2, 3].map(() => ({ batch: batchOf(org, keyId, fileId), identity: who }));
    const other = { batch: batchOf(org, keyId, fileId), identity: { ...who, bodyHash: Buffer.alloc(32, 2) } };
    const [first, second, third, reused] = await submitBatches(market.database, [...submitted, other]);
    const made = first?.outcome === 'made' ? first.value.id : null;
    expect(made).toBe(submitted[0]?.batch.id);
    expect([second, third].map((one) => one?.outcome === 'repeated' && one.value.id)).toEqual([made, made]);
    expect(reused).toEqual({ outcome: 'key-reused' });
    expect(await market.database.query('SELECT id FROM job WHERE org_id = $1', [org])).toEqual([{ id: made }]);
  });

  it('are two batches when two first tries say the same, and a retry beside them gets the later one', async () => {
    const { org, keyId, fileId } = await submitter();
    const first = { ...identity(), replayWithinMs: 0 };
    const identities = [first, first, { ...first, replayWithinMs: 600_000 }];
    const submitted = identities.map((who) => ({ batch: batchOf(org, keyId, fileId), identity: who }));
    const answers = await submitBatches(market.database, submitted);
    expect(answers.map((one) => one.outcome)).toEqual(['made', 'made', 'repeated']);
    const ids = answers.map((one) => (one.outcome === 'key-reused' ? null : one.value.id));
    expect(ids).toEqual([submitted[0]?.batch.id, submitted[1]?.batch.id, submitted[1]?.batch.id]);
  });

  it('are taken in shared commits, each once; one that cannot be taken is nobody else’s fault; a lost answer is given again', async () => {
    const { org, keyId, fileId } = await submitter();
    const who = identity();
    const [{ before } = { before: '0' }] = await market.database.query<{ before: string }>(
      'SELECT coalesce(max(id), 0)::text AS before FROM outbox',
    );
    const good = Array.from({ length: 40 }, () => batchOf(org, keyId, fileId));
    const bad = { ...batchOf(org, keyId, fileId), inputFileId: 'file-00000000' };
    const same = [1, 2, 3].map(() => batchOf(org, keyId, fileId));
    const answers = await Promise.allSettled([
      ...good.map((batch) => jobs.submitBatch(batch, null)),
      jobs.submitBatch(bad, null),
      ...same.map((batch) => jobs.submitBatch(batch, who)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([
      ...good.map(() => 'fulfilled'),
      'rejected',
      ...same.map(() => 'fulfilled'),
    ]);
    const taken = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
    expect(taken.slice(0, 40).map((one) => one.outcome === 'made' && one.value.id)).toEqual(good.map(({ id }) => id));
    // The answers to one identity name one job, then and whenever it is asked again.
    const again = await jobs.submitBatch(batchOf(org, keyId, fileId), who);
    const ids = [...taken.slice(40), again].map((one) => (one.outcome === 'key-reused' ? null : one.value.id));
    expect([new Set(ids).size, again.outcome]).toEqual([1, 'repeated']);
    const [counted] = await market.database.query(
      `SELECT (SELECT count(*) FROM job WHERE org_id = $1)::int AS jobs, (SELECT min(priority) FROM job WHERE org_id = $1)::int AS priority,
         (SELECT count(*) FROM outbox WHERE topic = 'validate' AND id > $2)::int AS messages`,
      [org, before],
    );
    expect(counted).toEqual({ jobs: 41, priority: 1, messages: 41 });
    const lines = (count: number): NewRow[] =>
      Array.from({ length: count }, (_, rowNo) => ({ rowNo, customId: `r${rowNo}`, offset: rowNo, length: 1 }));
    await market.database.query(`UPDATE job SET state = 'cancelled' WHERE id = $1`, [good[7]?.id]);
    const read = await Promise.all(good.map(({ id }, i) => jobs.addRows(id, lines(i + 1))));
    expect(read).toEqual(good.map((_, i) => i !== 7));
    // A validation that runs twice writes nothing twice and goes on behind what is there; nothing is left out between.
    expect(await jobs.addRows(good[3]?.id ?? '', lines(4))).toBe(true);
    expect(await jobs.addRows(good[3]?.id ?? '', lines(9).slice(2))).toBe(true);
    await expect(jobs.addRows(good[3]?.id ?? '', lines(12).slice(10))).rejects.toThrow(
      'expected row 9 of its file next, got row 10',
    );
    const written = await market.database.query<{ job_id: string; n: number }>(
      'SELECT job_id, count(*)::int AS n FROM job_row WHERE job_id = ANY($1) GROUP BY 1',
      [good.map(({ id }) => id)],
    );
    const byJob = new Map(written.map(({ job_id: id, n }) => [id, n]));
    expect(good.map(({ id }) => byJob.get(id) ?? 0)).toEqual(good.map((_, i) => ({ 3: 9, 7: 0 })[i] ?? i + 1));
  });
});
