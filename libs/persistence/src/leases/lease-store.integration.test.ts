import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ledger, UNCOVERED } from '@freehold/domain';
import { HERE_MS, type AuditFinding, type GrantedLease } from '@freehold/market';
import { leaseStoreSuite } from '@freehold/testing';
import { OPEN_EPOCH } from '@freehold/testing/lease-world';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { BOOK, LEASE_MS, MarketWorld, ROW_PRICE } from '../../test/market-world.ts';
import { balanceOfAccount, balanceOfOrg, PgFineTuneStore, PgOfferBook, PgOutbox } from '../index.ts';
import { PgLeaseStore } from './pg-lease-store.ts';

let market: MarketDatabase;
let world: MarketWorld;
let store: PgLeaseStore;
beforeAll(async () => {
  market = await marketDatabase({ poolSize: 10 });
  world = new MarketWorld(market.database);
  store = world.store;
}, 30_000);
afterAll(() => market.close());

const fenced = { moved: false, why: 'moved-by-another' };

describe('nodes', () => {
  it('are known by their newest offer; an older one, or one that expired, is refused with the reason', async () => {
    const offer = world.offer('nodeA', 2);
    expect(await store.rememberNode(offer)).toEqual({ accepted: true });
    expect(await store.rememberNode(offer)).toEqual({ accepted: true });
    expect(await store.rememberNode(world.offer('nodeA', 1))).toMatchObject({
      accepted: false,
      code: 'overtaken',
      why: expect.stringContaining('not newer than offer 2'),
    });
    const other = { ...offer, offer: { ...offer.offer, region: 'elsewhere' } };
    expect(await store.rememberNode(other)).toMatchObject({ accepted: false, code: 'conflicting' });
    expect(await store.rememberNode(world.offer('nodeB', 1, -60))).toMatchObject({ accepted: false, code: 'expired' });
  });

  it('are taken, however many processes a newcomer says hello to at once', async () => {
    const newcomers = Array.from({ length: 60 }, (_, no) => world.offer(`newcomer${no}`, 1));
    const hellos = newcomers.flatMap((offer) => Array.from({ length: 5 }, () => store.rememberNode(offer)));
    const failed = (await Promise.allSettled(hellos)).filter(({ status }) => status === 'rejected');
    expect(failed).toEqual([]);
  });

  it('are kept with all that they signed, and known by what this version understands of it', async () => {
    // What names a node in earnest: the others here are no peer ids.
    const { offer, signature } = world.offer(`16Uiu2HAm${'X'.repeat(30)}`, 1);
    const newer = { ...offer, powerW: 300, later: [{ deep: [1] }] };
    expect(await store.rememberNode({ offer: newer, signature })).toEqual({ accepted: true });
    const kept = await market.database.query('SELECT offer, offer_signature FROM node WHERE id = $1', [offer.node]);
    expect(kept).toEqual([{ offer: newer, offer_signature: signature }]);
    const book = await new PgOfferBook(market.database).offers();
    expect(book.filter(({ node }) => node === offer.node)).toEqual([offer]);
  });

  it('are here while a scheduler says so, by when it heard of them; else away since then', async () => {
    const id = `16Uiu2HAm${'Y'.repeat(30)}`;
    await store.rememberNode(world.offer(id, 1));
    const awayMs = async (): Promise<number | undefined> =>
      (await new PgOfferBook(market.database).offers()).find(({ node }) => node === id)?.awayMs;
    const set = (what: string): Promise<unknown> =>
      market.database.query(`UPDATE node SET ${what} WHERE id = $1`, [id]);
    expect(await awayMs()).toBeUndefined();
    await set(`last_seen_at = clock_timestamp() - interval '1 hour'`);
    expect(Math.round(((await awayMs()) ?? 0) / 60_000)).toBe(60);
    // A process that slept says what it last knew.
    await store.saw([{ nodeId: id, agoMs: HERE_MS + 1_000 }]);
    expect(Math.round(((await awayMs()) ?? 0) / 1_000)).toBe(HERE_MS / 1_000 + 1);
    await store.saw([
      { nodeId: 'nobody', agoMs: 0 },
      { nodeId: id, agoMs: 1_000 },
    ]);
    expect(await awayMs()).toBeUndefined();
    await store.saw([{ nodeId: id, agoMs: 3_600_000 }]);
    expect(await awayMs()).toBeUndefined();
    await set(`benched_until = clock_timestamp() + interval '1 hour'`);
    expect(await awayMs()).toBeLessThan(60_000);
    await set(`benched_until = NULL, last_seen_at = clock_timestamp() - interval '1 hour'`);
    await market.database.query('INSERT INTO shard (no, session) VALUES (0, 1)');
    expect(await awayMs()).toBe(0);
    await market.database.query(`UPDATE shard SET held_at = held_at - interval '1 hour'`);
    expect(await awayMs()).toBeGreaterThan(HERE_MS);
    await market.database.query('DELETE FROM shard');
  });

  it('keep what was measured of them, for so many models only', async () => {
    const node = await world.node();
    const speeds = async (): Promise<Readonly<Record<string, number>>> =>
      (await store.nodeRecords([node])).get(node)?.speed ?? {};
    await store.rememberSpeed(node, 'a', 1.5);
    await store.rememberSpeed(node, 'b', 20);
    await store.rememberSpeed(node, 'a', 3);
    expect(await speeds()).toEqual({ a: 3, b: 20 });
    for (let i = 0; i < 63; i += 1) await store.rememberSpeed(node, `m${i}`, i);
    expect(Object.keys(await speeds()).length).toBeLessThanOrEqual(64);
    expect(await speeds()).toMatchObject({ m62: 62 });
  });

  it('have their rows and leases in flight counted', async () => {
    const [node, job] = [await world.node(), await world.batch(30)];
    await world.lease(job, node, 0, 10);
    await world.deliver(await world.lease(job, node, 10, 30));
    const record = (await store.nodeRecords([node, 'stranger'])).get(node);
    expect(record).toMatchObject({ rowsInFlight: 30, leasesInFlight: 1, rowsBad: 0, benchedForMs: 0 });
  });

  it('are not busy for batches because they chat', async () => {
    const [node, job] = [await world.node(), await world.batch(2)];
    const chat = await world.lease(job, node, 0, 1);
    await world.lease(job, node, 1, 2);
    await market.database.query(`UPDATE lease SET road = 'stream' WHERE task_id = $1`, [chat.task]);
    expect((await store.nodeRecords([node])).get(node)).toMatchObject({ rowsInFlight: 2, leasesInFlight: 1 });
  });
});

describe('demand and grants', () => {
  it('show uncut rows and tasks that came back, and let orgs take turns', async () => {
    const [node, org] = [await world.node(), await world.org()];
    const jobs = [await world.batch(20, { org }), await world.batch(5, { org }), await world.batch(5)];
    const lease = await world.lease(jobs[0] ?? '', node, 0, 8);
    await store.giveBack(lease, 'yield', 'wanted');
    const all = (await store.demand(100, 10)).filter(({ jobId }) => jobs.includes(jobId));
    expect(all.map(({ jobId }) => jobId)).toEqual([jobs[0], jobs[2], jobs[1]]);
    expect(all[0]).toMatchObject({ nextRow: 8, rowCount: 20, verify: 'spot', rateCaps: {} });
    expect(all[0]?.queued).toEqual([
      {
        taskId: lease.task,
        epoch: 2,
        rowFrom: 0,
        rowTo: 8,
        attempts: 0,
        lastNode: node,
        waitedMs: expect.any(Number),
      },
    ]);
  });

  it('refuse rows beyond the job, jobs that are over, and cuts that leave a hole', async () => {
    const [node, job] = [await world.node(), await world.batch(10)];
    expect(await store.grant([world.wish(job, node, 0, 11)], LEASE_MS)).toEqual([]);
    for (const nonce of ['0x12', `0x${'zz'.repeat(16)}`, '00'.repeat(17)])
      await expect(store.grant([{ ...world.wish(job, node, 0, 1), nonce }], LEASE_MS)).rejects.toThrow(
        'nonces of 16 bytes',
      );
    expect(await store.grant([world.wish(job, node, 2, 4)], LEASE_MS)).toEqual([]);
    const holed = await store.grant([world.wish(job, node, 0, 2), world.wish(job, node, 3, 4)], LEASE_MS);
    expect(holed.map(({ rowFrom, rowTo }) => [rowFrom, rowTo])).toEqual([[0, 2]]);
    await market.database.query(`UPDATE job SET state = 'cancelling' WHERE id = $1`, [job]);
    expect(await store.grant([world.wish(job, node, 2, 4)], LEASE_MS)).toEqual([]);
  });

  it('refuse a job that was paused since it was read, its new rows and those that came back', async () => {
    const [node, job] = [await world.node(), await world.batch(10)];
    const back = await world.lease(job, node, 0, 4);
    await store.giveBack(back, 'yield', 'wanted');
    const wishes = [world.wish(job, node, 0, 4, { task: back.task, epoch: 2 }), world.wish(job, node, 4, 10)];
    const pause = `UPDATE job SET paused_at = CASE WHEN $2 THEN clock_timestamp() END WHERE id = $1`;
    await market.database.query(pause, [job, true]);
    expect(await store.grant(wishes, LEASE_MS)).toEqual([]);
    await market.database.query(pause, [job, false]);
    // Whoever holds no shard grants nothing.
    expect(await store.grant(wishes, LEASE_MS, [])).toEqual([]);
    expect(await store.grant(wishes, LEASE_MS)).toHaveLength(2);
  });

  it('never overlap when eight placements race over the same rows', async () => {
    const nodes = await Promise.all([1, 2, 3, 4].map(() => world.node()));
    const job = await world.batch(400);
    const racer = async (seed: number): Promise<void> => {
      for (let round = 0; round < 60; round += 1) {
        const [open] = (await store.demand(500, 50)).filter(({ jobId }) => jobId === job);
        if (open === undefined) return;
        const size = 3 + ((seed * 7 + round) % 11);
        const wishes = [];
        for (let from = open.nextRow; from < open.rowCount && wishes.length < 3; from += size) {
          const to = Math.min(from + size, open.rowCount);
          wishes.push(world.wish(job, nodes[(seed + wishes.length) % 4] ?? '', from, to));
        }
        for (const task of open.queued.slice(0, 2)) {
          const ref = { task: task.taskId, epoch: task.epoch };
          wishes.push(world.wish(job, nodes[seed % 4] ?? '', task.rowFrom, task.rowTo, ref));
        }
        const granted = await store.grant(wishes, LEASE_MS);
        if (granted[0] !== undefined && round % 3 === 0) await store.giveBack(granted[0], 'yield', 'race');
      }
    };
    await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(racer));
    const tasks = await market.database.query<{ row_from: number; row_to: number }>(
      'SELECT row_from, row_to FROM task WHERE job_id = $1 ORDER BY row_from',
      [job],
    );
    const edges = tasks.flatMap(({ row_from, row_to }) => [row_from, row_to]);
    expect(edges[0]).toBe(0);
    expect(edges.at(-1)).toBe((await world.job(job))['next_row']);
    for (let i = 1; i + 1 < edges.length; i += 2) expect(edges[i]).toBe(edges[i + 1]);
    const doubles = await market.database.query(
      'SELECT 1 FROM lease WHERE job_id = $1 AND ended_at IS NULL GROUP BY task_id HAVING count(*) > 1',
      [job],
    );
    expect(doubles).toEqual([]);
  }, 60_000);
});

describe('a lease', () => {
  it('grows by checkpoints that continue exactly, and confirms one whose answer was lost', async () => {
    const [node, job] = [await world.node(), await world.batch(10)];
    const lease = await world.lease(job, node, 0, 10);
    expect(await store.checkpoint(lease, world.rows(lease, 0, 4), world.at(lease, 4))).toEqual({ moved: true });
    expect(await store.checkpoint(lease, world.rows(lease, 0, 4), world.at(lease, 4))).toEqual({ moved: true });
    expect(await store.checkpoint(lease, world.rows(lease, 5, 8), { ...world.at(lease, 8), n: 8 })).toEqual(fenced);
    expect(await store.checkpoint(lease, world.rows(lease, 4, 7), world.at(lease, 8))).toEqual(fenced);
    expect(await store.checkpoint(lease, world.rows(lease, 4, 10), world.at(lease, 10))).toEqual({ moved: true });
    expect(await store.checkpoint(lease, world.rows(lease, 4, 10), world.at(lease, 10))).toEqual({ moved: true });
    expect(await store.delivered(lease)).toHaveLength(10);
    expect(await store.view(lease)).toMatchObject({
      state: 'delivered',
      committed: true,
      checkpointRows: 10,
      drawHeight: 7n,
    });
    const filed = await market.database.query(
      `SELECT 1 FROM outbox WHERE topic = 'verify' AND message ->> 'task' = $1`,
      [lease.task],
    );
    expect(filed).toHaveLength(1);
  });

  it('is missing when its node came back and does not name it, unless it was granted a moment ago', async () => {
    const [node, job] = [await world.node(), await world.batch(40)];
    const [named, unnamed, committed, young] = [
      await world.lease(job, node, 0, 10),
      await world.lease(job, node, 10, 20),
      await world.lease(job, node, 20, 30),
      await world.lease(job, node, 30, 40),
    ];
    await world.deliver(committed);
    await market.database.query(
      `UPDATE lease SET granted_at = clock_timestamp() - interval '1 minute' WHERE job_id = $1 AND task_id <> $2`,
      [job, young.task],
    );
    const held = [{ task: named.task, epoch: 1, nonce: named.nonce, done: 0, committed: false }];
    expect(await store.missing(node, held, 5_000)).toEqual([{ task: unnamed.task, epoch: 1 }]);
    expect(await store.missing('another', held, 5_000)).toEqual([]);
    await store.giveBack(unnamed, 'lose', 'the node came back without it');
    expect(await store.missing(node, held, 5_000)).toEqual([]);
  });

  it('outlives an absence of the coordinator, which takes nothing from the nodes', async () => {
    const [node, job] = [await world.node(), await world.batch(20)];
    const [alive, dead] = [await world.lease(job, node, 0, 10), await world.lease(job, node, 10, 20)];
    await store.heartbeatSelf();
    const back = (
      table: string,
      column: string,
      where: string,
      minutes: number,
      ref: readonly unknown[],
    ): Promise<unknown> =>
      market.database.query(
        `UPDATE ${table} SET ${column} = clock_timestamp() - ${minutes} * interval '1 minute' WHERE ${where}`,
        ref,
      );
    await back('coordinator', 'updated_at', `key = 'alive'`, 10, []);
    await back('lease', 'lease_until', 'task_id = $1', 9, [alive.task]);
    await back('lease', 'lease_until', 'task_id = $1', 11, [dead.task]);
    // Nobody could hand a lease back to a coordinator that was away.
    await back('lease', 'yield_by', 'task_id = $1', 9, [alive.task]);
    const expired = await store.expired(100);
    expect(expired.map(({ task }) => task)).toContain(dead.task);
    expect(expired.map(({ task }) => task)).not.toContain(alive.task);
    expect(await store.extend([{ nodeId: node, lease: alive }], LEASE_MS)).toEqual([{ task: alive.task, epoch: 1 }]);
    expect((await store.forgiveOutage(30_000)).outageMs).toBeLessThan(5_000);
    await market.database.query(`DELETE FROM coordinator WHERE key = 'alive'`);
  });

  it('is told after an outage as before it: who was there until its term kept it, and who died before was silent', async () => {
    const [node, job] = [await world.node(), await world.batch(20)];
    const [silent, kept] = [await world.lease(job, node, 0, 10), await world.lease(job, node, 10, 20)];
    await store.heartbeatSelf();
    // Both were heard a second before the coordinator went; the terms were a quarter of a minute away, and over.
    await market.database.query(
      `UPDATE coordinator SET updated_at = clock_timestamp() - interval '60 s' WHERE key = 'alive'`,
    );
    const askedAt = (lease: GrantedLease, secondsAgo: number): Promise<unknown> =>
      market.database.query(
        `UPDATE lease SET lease_until = clock_timestamp() - interval '51 s', asked_rows = 0,
           yield_by = clock_timestamp() - $2 * interval '1 s' WHERE task_id = $1`,
        [lease.task, secondsAgo],
      );
    await askedAt(silent, 45);
    await askedAt(kept, 60);
    expect((await store.forgiveOutage(30_000)).extended).toBeGreaterThanOrEqual(2);
    for (const lease of [silent, kept]) await world.silence(lease);
    const dead = (await store.expired(100)).filter(({ nodeId }) => nodeId === node);
    expect(new Map(dead.map((one) => [one.task, one.kept]))).toEqual(
      new Map([
        [silent.task, false],
        [kept.task, true],
      ]),
    );
    await market.database.query(`DELETE FROM coordinator WHERE key = 'alive'`);
  });

  it('is over one grace after the last start of a coordinator that starts again and again', async () => {
    const lease = await world.lease(await world.batch(10), await world.node(), 0, 10);
    await store.heartbeatSelf();
    for (let start = 0; start < 5; start += 1) await store.forgiveOutage(30_000);
    const [left] = await market.database.query<{ seconds: number }>(
      'SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 AS seconds FROM lease WHERE task_id = $1',
      [lease.task],
    );
    expect(left?.seconds).toBeGreaterThan(20);
    expect(left?.seconds).toBeLessThanOrEqual(30);
    await market.database.query(`DELETE FROM coordinator WHERE key = 'alive'`);
  });
});

describe('a lease that ends early', () => {
  it('lost at row 37 of 64 is paid to its last checkpoint, and the rest is leased again', async () => {
    const [first, second] = [await world.node(), await world.node()];
    const job = await world.batch(64);
    const lease = await world.lease(job, first, 0, 64);
    await store.checkpoint(lease, world.rows(lease, 0, 32), world.at(lease, 32));
    expect(await store.giveBack(lease, 'lose', 'silence')).toEqual({ moved: true, keptRows: 32, requeuedRows: 32 });
    const [open] = (await store.demand(500, 5)).filter(({ jobId }) => jobId === job);
    expect(open?.queued).toMatchObject([{ rowFrom: 32, rowTo: 64, epoch: 1, attempts: 1, lastNode: first }]);
    expect(await store.view(lease)).toMatchObject({ state: 'delivered', committed: true, rowFrom: 0, rowTo: 32 });
    expect(await world.accept(lease)).toEqual({ moved: true, charge: 32n * ROW_PRICE, fee: 16n, jobDone: false });
    const task = open?.queued[0];
    const wish = world.wish(job, second, 32, 64, { task: task?.taskId ?? '', epoch: 1 });
    const [rest] = await store.grant([wish], LEASE_MS);
    if (rest === undefined) throw new Error('the rest was not granted');
    await world.deliver(rest);
    expect(await world.accept(rest)).toMatchObject({ charge: 32n * ROW_PRICE, jobDone: true });
    expect(await world.job(job)).toMatchObject({ state: 'finalizing', charged: '640', rows_succeeded: 64 });
    expect((await store.nodeRecords([first])).get(first)).toMatchObject({ leasesLost: 1, rowsAccepted: 32 });
  });

  it('goes back whole without a checkpoint; refusals and yields are no attempts', async () => {
    const [node, job] = [await world.node(), await world.batch(8)];
    let lease = await world.lease(job, node, 0, 8);
    const again = async (): Promise<void> => {
      const [next] = await store.grant(
        [world.wish(job, node, 0, 8, { task: lease.task, epoch: lease.epoch + 1 })],
        LEASE_MS,
      );
      if (next === undefined) throw new Error('not granted again');
      lease = next;
    };
    const attempts = async (): Promise<unknown> =>
      (await market.database.query('SELECT attempts FROM task WHERE id = $1', [lease.task]))[0]?.['attempts'];
    expect(await store.giveBack(lease, 'yield', 'wanted')).toEqual({ moved: true, keptRows: 0, requeuedRows: 8 });
    await again();
    await store.giveBack(lease, 'refuse', 'busy');
    expect(await attempts()).toBe(0);
    await again();
    await store.giveBack(lease, 'lose', 'silence');
    expect(await attempts()).toBe(1);
  });

  it('fails after too many attempts, rows and all, and the job goes on to its files', async () => {
    const [node, job] = [await world.node(), await world.batch(4)];
    const lease = await world.lease(job, node, 0, 4);
    await store.giveBack(lease, 'lose', 'silence');
    await market.database.query('UPDATE task SET attempts = 8 WHERE id = $1', [lease.task]);
    expect(await store.failPoison(9)).toBe(0);
    expect(await store.failPoison(8)).toBe(1);
    expect(await world.rowStates(job)).toEqual({ failed: 4 });
    expect(await world.job(job)).toMatchObject({ state: 'finalizing', rows_failed: 4, charged: '0' });
    const [row] = await market.database.query('SELECT error_code FROM job_row WHERE job_id = $1 LIMIT 1', [job]);
    expect(row).toEqual({ error_code: 'attempts_exhausted' });
  });

  it('fails a lost chat instead of asking another node for an answer nobody waits for, and frees its hold', async () => {
    const [node, org] = [await world.node(), await world.org(500n)];
    const job = await world.batch(1, { org, kind: 'chat', cap: 100n });
    const lease = await world.lease(job, node, 0, 1);
    expect(await balanceOfOrg(market.database, org)).toEqual({ available: 400n, held: 100n });
    expect(await store.giveBack(lease, 'lose', 'silence')).toEqual({ moved: true, keptRows: 0, requeuedRows: 0 });
    expect(await world.job(job)).toMatchObject({ state: 'failed', rows_failed: 1 });
    expect(await balanceOfOrg(market.database, org)).toEqual({ available: 500n, held: 0n });
  });
});

describe('acceptance', () => {
  it('pays once when eight workers settle the same task', async () => {
    const [node, org] = [await world.node(), await world.org()];
    const job = await world.batch(10, { org });
    const lease = await world.lease(job, node, 0, 10);
    await world.deliver(lease, [3]);
    const acceptance = await world.acceptance(lease);
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => store.accept(acceptance)));
    expect(outcomes.filter(({ moved }) => moved)).toEqual([{ moved: true, charge: 90n, fee: 4n, jobDone: true }]);
    expect(await world.rowStates(job)).toEqual({ succeeded: 9, failed: 1 });
    expect(await world.job(job)).toMatchObject({
      charged: '90',
      rows_succeeded: 9,
      rows_failed: 1,
      state: 'finalizing',
    });
    const { payout } = world.offer(node, 1).offer;
    expect(await balanceOfAccount(market.database, ledger.providerOf(payout))).toBe(86n);
    const counts = await market.database.query(
      `SELECT (SELECT count(*)::int FROM receipt WHERE job_id = $1) AS receipts,
         (SELECT count(*)::int FROM outbox WHERE topic = 'finalize' AND message ->> 'job' = $1) AS finalize,
         (SELECT count(*)::int FROM outbox WHERE topic = 'settle' AND message ->> 'task' = $2) AS settle`,
      [job, lease.task],
    );
    expect(counts).toEqual([{ receipts: 1, finalize: 1, settle: 1 }]);
  });

  it('never charges above the cap, and gives a receipt for work beyond it', async () => {
    const [node, job] = [await world.node(), await world.batch(30, { cap: 150n })];
    const leases = [
      await world.lease(job, node, 0, 10),
      await world.lease(job, node, 10, 20),
      await world.lease(job, node, 20, 30),
    ];
    for (const lease of leases) await world.deliver(lease);
    const charges = await Promise.all(leases.map((lease) => world.accept(lease)));
    expect(charges.map((done) => (done.moved ? Number(done.charge) : -1)).sort((a, b) => a - b)).toEqual([0, 50, 100]);
    expect(await world.job(job)).toMatchObject({ charged: '150', state: 'finalizing' });
    const [entries] = await market.database.query(
      `SELECT count(*)::int AS n FROM ledger_transaction WHERE kind = 'charge' AND ref = ANY($1)`,
      [leases.map(({ task }) => task)],
    );
    expect(entries).toEqual({ n: 2 });
  });

  it('changes nothing at all when what it is told disagrees with what was delivered', async () => {
    const [node, job] = [await world.node(), await world.batch(5)];
    const lease = await world.lease(job, node, 0, 5);
    await world.deliver(lease, [1]);
    const acceptance = await world.acceptance(lease);
    await expect(store.accept({ ...acceptance, rowsSucceeded: 5 })).rejects.toThrow(/Nothing was charged/);
    expect(await store.accept({ ...acceptance, root: `0x${'99'.repeat(32)}` })).toEqual(fenced);
    expect(await world.job(job)).toMatchObject({ charged: '0', rows_succeeded: 0 });
    expect((await store.accept(acceptance)).moved).toBe(true);
  });

  it('hands out vouchers that rise by exactly the accepted net charge, per order and in total', async () => {
    const [node, other] = [await world.node(), await world.node()];
    const orgs = [await world.org(), await world.org()];
    await world.openBook(orgs[0] ?? '', BOOK, 0);
    await world.openBook(orgs[1] ?? '', BOOK, 1);
    const jobs = [];
    for (const org of orgs) jobs.push(await world.batch(40, { org, trust: 'self-custody' }));
    const leases = [];
    for (const job of jobs) {
      for (const [i, who] of [node, node, node, other].entries()) {
        const lease = await world.lease(job, who, i * 10, i * 10 + 10);
        await world.deliver(lease);
        leases.push(lease);
      }
    }
    await Promise.all(leases.map((lease) => world.accept(lease)));
    const vouchers = await market.database.query<{
      node_id: string;
      order_index: number;
      cumulative: string;
      total: string;
    }>('SELECT node_id, order_index, cumulative, total FROM voucher WHERE node_id = ANY($1) ORDER BY total', [
      [node, other],
    ]);
    const mine = vouchers.filter(({ node_id }) => node_id === node);
    expect(vouchers.length - mine.length).toBe(2);
    expect(mine.map(({ total }) => total)).toEqual(['95', '190', '285', '380', '475', '570']);
    for (const order of [0, 1]) {
      const cumulative = mine.filter(({ order_index }) => order_index === order).map((voucher) => voucher.cumulative);
      expect(cumulative).toEqual(['95', '190', '285']);
    }
  });
});

describe('acceptances that come together', () => {
  const together = (): PgLeaseStore => new PgLeaseStore(market.database, { askMs: 5, acceptMs: 40 });

  async function chats(count: number, node: string, org: string): Promise<{ job: string; lease: GrantedLease }[]> {
    const made = [];
    for (let i = 0; i < count; i += 1) {
      const job = await world.batch(1, { org, kind: 'chat', cap: 100n, trust: 'self-custody' });
      const lease = await world.lease(job, node, 0, 1);
      await world.deliver(lease);
      made.push({ job, lease });
    }
    return made;
  }

  /** How many transactions wrote the receipts of these leases. */
  async function commits(leases: readonly { readonly task: string }[]): Promise<number> {
    const [row] = await market.database.query<{ n: number }>(
      'SELECT count(DISTINCT xmin::text)::int AS n FROM receipt WHERE task_id = ANY($1::uuid[])',
      [leases.map(({ task }) => task)],
    );
    return row?.n ?? 0;
  }

  it('of chats are one commit, with each its own receipt, charge, released hold and voucher', async () => {
    const [node, org] = [await world.node(), await world.org(1_000n)];
    await world.openBook(org, BOOK, 7);
    const made = await chats(6, node, org);
    const acceptances = await Promise.all(made.map(({ lease }) => world.acceptance(lease)));
    const grouped = together();
    const outcomes = await Promise.all(acceptances.map((acceptance) => grouped.accept(acceptance)));
    expect(outcomes).toEqual(Array(6).fill({ moved: true, charge: ROW_PRICE, fee: 0n, jobDone: true }));
    expect(await commits(made.map(({ lease }) => lease))).toBe(1);
    for (const { job } of made) expect(await world.job(job)).toMatchObject({ state: 'completed', charged: '10' });
    expect(await balanceOfOrg(market.database, org)).toEqual({ available: 940n, held: 0n });
    expect((await store.nodeRecords([node])).get(node)).toMatchObject({ rowsAccepted: 6, rowsAudited: 6 });
    const totals = await market.database.query('SELECT total, net FROM voucher WHERE node_id = $1 ORDER BY total', [
      node,
    ]);
    expect(totals).toEqual(Array.from({ length: 6 }, (_, i) => ({ total: String(10 * (i + 1)), net: '10' })));
    // Said twice, at once and together with what is new.
    const [late] = await chats(1, node, org);
    if (late === undefined) throw new Error('no chat was made');
    const again = [...acceptances.slice(0, 2), await world.acceptance(late.lease), await world.acceptance(late.lease)];
    const moved = (await Promise.all(again.map((acceptance) => grouped.accept(acceptance)))).map((one) => one.moved);
    expect(moved).toEqual([false, false, true, false]);
  });

  it.each([
    ['is not what was committed to', false, { root: `0x${'99'.repeat(32)}` }],
    ['disagrees with what was delivered', 'thrown', { rowsSucceeded: 0 }],
  ])('leave out the one that %s, and it alone', async (_, expected, wrong) => {
    const [node, org] = [await world.node(), await world.org(1_000n)];
    const made = await chats(3, node, org);
    const acceptances = await Promise.all(made.map(({ lease }) => world.acceptance(lease)));
    const grouped = together();
    const outcomes = await Promise.allSettled(
      acceptances.map((acceptance, i) => grouped.accept(i === 1 ? { ...acceptance, ...wrong } : acceptance)),
    );
    const said = outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value.moved : 'thrown'));
    expect(said).toEqual([true, expected, true]);
    expect(await balanceOfOrg(market.database, org)).toEqual({ available: 880n, held: 100n });
    const later = await Promise.all(acceptances.map((acceptance) => grouped.accept(acceptance)));
    expect(later.map(({ moved }) => moved)).toEqual([false, true, false]);
    expect(await balanceOfOrg(market.database, org)).toEqual({ available: 970n, held: 0n });
  });

  it('leave the voucher to who accepted for a moment; when he dies the queue brings it', async () => {
    const [node, org] = [await world.node(), await world.org()];
    const [chat] = await chats(1, node, org);
    const accepted = await new PgLeaseStore(market.database, { settleMs: 60_000 }).accept(
      await world.acceptance(chat?.lease ?? { task: randomUUID(), epoch: 1 }),
    );
    const settle = accepted.moved ? accepted.settle : undefined;
    const outbox = new PgOutbox(market.database);
    const relayed = async (): Promise<boolean> => {
      const sent: string[] = [];
      await outbox.relay(10_000, async (_, messages) => void sent.push(...messages.map(({ outboxId }) => outboxId)));
      return sent.includes(settle ?? '');
    };
    expect([typeof settle, await relayed()]).toEqual(['string', false]);
    await market.database.query(`UPDATE outbox SET claimed_until = clock_timestamp() WHERE id = $1`, [settle]);
    expect(await relayed()).toBe(true);
  });

  it('of one job share what is left under its cap, in the order in which they came', async () => {
    const [node, job] = [await world.node(), await world.batch(30, { cap: 150n })];
    const acceptances = [];
    for (const from of [0, 10, 20]) {
      const lease = await world.lease(job, node, from, from + 10);
      await world.deliver(lease);
      acceptances.push(await world.acceptance(lease));
    }
    const grouped = together();
    const outcomes = await Promise.all(acceptances.map((acceptance) => grouped.accept(acceptance)));
    expect(outcomes.map((one) => (one.moved ? one.charge : null))).toEqual([100n, 50n, 0n]);
    expect(await commits(acceptances)).toBe(1);
    expect(await world.job(job)).toMatchObject({ charged: '150', state: 'finalizing', rows_succeeded: 30 });
  });

  it('promise no more than their order has left, each what it covers', async () => {
    const [node, org] = [await world.node(), await world.org(1_000n)];
    await world.openBook(org, BOOK, 8);
    await market.database.query('UPDATE chain_order SET reserved = spent + 25 WHERE book = $1 AND order_index = 8', [
      BOOK,
    ]);
    // The operator's covers all of it, and stands in only for what no own order covers.
    await world.openBook(await world.org(), BOOK, 9);
    await market.database.query('UPDATE chain_order SET is_operator = true WHERE book = $1 AND order_index = 9', [
      BOOK,
    ]);
    const made = await Promise.all((await chats(3, node, org)).map(({ lease }) => world.acceptance(lease)));
    const grouped = together();
    await Promise.all(made.map((acceptance) => grouped.accept(acceptance)));
    const promised = await market.database.query(
      'SELECT order_index, count(*)::int AS n FROM voucher WHERE node_id = $1 GROUP BY order_index ORDER BY order_index',
      [node],
    );
    await market.database.query(`UPDATE chain_order SET state = 'refunded' WHERE book = $1 AND order_index = 9`, [
      BOOK,
    ]);
    expect(promised).toEqual([
      { order_index: 8, n: 2 },
      { order_index: 9, n: 1 },
    ]);
  });

  it('lock orders as one that comes alone does, in the order of their keys', async () => {
    const [node, org] = [await world.node(), await world.org(1_000n)];
    const [operator, own] = [30, 31];
    await world.openBook(await world.org(), BOOK, operator);
    await world.openBook(org, BOOK, own);
    const orders = (what: string): string => `UPDATE chain_order SET ${what} WHERE book = $1 AND order_index = $2`;
    await market.database.query(orders('is_operator = true'), [BOOK, operator]);
    const [alone, ...group] = await Promise.all(
      (await chats(3, node, org)).map(({ lease }) => world.acceptance(lease)),
    );
    if (alone === undefined) throw new Error('no chat was made');
    const grouped = together();
    for (const accept of [
      () => store.accept(alone),
      async () => (await Promise.all(group.map((one) => grouped.accept(one))))[0],
    ]) {
      let accepting: Promise<{ readonly moved: boolean } | undefined> = Promise.resolve(undefined);
      let isDone = false;
      await market.database.transaction(async (tx) => {
        await tx.query('SELECT 1 FROM chain_order WHERE book = $1 AND order_index = $2 FOR UPDATE', [BOOK, operator]);
        accepting = accept().finally(() => (isDone = true));
        const waiting = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
        while (!isDone && (await market.database.query(waiting)).length === 0);
        expect(isDone).toBe(false);
        // Nothing is held of what comes behind the lock that is waited for.
        await tx.query('SELECT 1 FROM chain_order WHERE book = $1 AND order_index = $2 FOR UPDATE NOWAIT', [BOOK, own]);
      });
      expect((await accepting)?.moved).toBe(true);
    }
    const charged = 'SELECT DISTINCT order_index FROM voucher WHERE node_id = $1';
    expect(await market.database.query(charged, [node])).toEqual([{ order_index: own }]);
    await market.database.query(orders(`state = 'refunded'`), [BOOK, operator]);
  });

  it('have their voucher in the next epoch when theirs is closed while they wait for it', async () => {
    const [node, org, book] = [await world.node(), await world.org(1_000n), `0x${'b2'.repeat(32)}`];
    await world.openBook(org, book);
    const [chat] = await chats(1, node, org);
    if (chat === undefined) throw new Error('no chat was made');
    const acceptance = await world.acceptance(chat.lease);
    let accepting: Promise<{ readonly moved: boolean } | undefined> = Promise.resolve(undefined);
    await market.database.transaction(async (tx) => {
      await tx.query('SELECT 1 FROM chain_epoch WHERE book = $1 FOR UPDATE', [book]);
      accepting = store.accept(acceptance);
      const waiting = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      while ((await market.database.query(waiting)).length === 0);
      const closed = `state = 'closed', closed_at = now(), debits = '{}', credits = '{}', fee = 0`;
      await tx.query(`UPDATE chain_epoch SET ${closed} WHERE book = $1`, [book]);
      await tx.query('INSERT INTO chain_epoch (book, epoch) VALUES ($1, $2)', [book, String(OPEN_EPOCH + 1n)]);
    });
    expect((await accepting)?.moved).toBe(true);
    const vouchers = await market.database.query('SELECT book_epoch FROM voucher WHERE node_id = $1', [node]);
    await market.database.query(`UPDATE chain_order SET state = 'refunded' WHERE book = $1`, [book]);
    expect(vouchers).toEqual([{ book_epoch: String(OPEN_EPOCH + 1n) }]);
  });

  it('do not wait for a job that another holds: its lease alone does, and no later group either', async () => {
    const [node, org] = [await world.node(), await world.org(1_000n)];
    const [held, ...free] = await chats(4, node, org);
    if (held === undefined) throw new Error();
    const first = await world.acceptance(held.lease);
    const [second, ...later] = await Promise.all(free.map(({ lease }) => world.acceptance(lease)));
    if (second === undefined) throw new Error();
    const grouped = together();
    const done: string[] = [];
    let accepted: Promise<unknown> = Promise.resolve();
    await market.database.transaction(async (tx) => {
      await tx.query('SELECT 1 FROM job WHERE id = $1 FOR UPDATE', [held.job]);
      accepted = grouped.accept(first).then(({ moved }) => done.push(`held ${moved}`));
      expect((await grouped.accept(second)).moved).toBe(true);
      for (const { moved } of await Promise.all(later.map((one) => grouped.accept(one)))) expect(moved).toBe(true);
      done.push('free');
    });
    await accepted;
    expect(done).toEqual(['free', 'held true']);
    expect(await commits([held.lease, ...free.map(({ lease }) => lease)])).toBe(3);
    // Who waited would have waited for the lock's timeout of five seconds.
  }, 4_500);

  it('are read for, drawn and judged in statements that they share, each with its own answer', async () => {
    const [node, org] = [await world.node(), await world.org(1_000n)];
    const [first, second] = await chats(2, node, org);
    if (first === undefined || second === undefined) throw new Error();
    const grouped = together();
    const stranger = { task: randomUUID(), epoch: 1 };
    const asked = [first.lease, stranger, second.lease, { ...first.lease, epoch: 2 }];
    const views = await Promise.all(asked.map((lease) => grouped.view(lease)));
    expect(views.map((view) => view?.task ?? null)).toEqual([first.lease.task, null, second.lease.task, null]);
    const rows = await Promise.all(asked.map((lease) => grouped.delivered(lease)));
    expect(rows.map(({ length }) => length)).toEqual([1, 0, 1, 0]);
    // Two handlers of one message: neither sees a row twice.
    const twice = await Promise.all([first.lease, first.lease].map((lease) => grouped.delivered(lease)));
    expect(twice.map(({ length }) => length)).toEqual([1, 1]);
    const seed = `0x${'5e'.repeat(32)}`;
    const draws = await Promise.all(asked.map((lease) => grouped.saveDraw(lease, seed, [0])));
    expect(draws.map(({ moved }) => moved)).toEqual([true, false, true, false]);
    expect((await grouped.saveDraw(first.lease, `0x${'5f'.repeat(32)}`, [0])).moved).toBe(false);
    const found = (verdict: 'good' | 'bad'): AuditFinding[] => [
      { rowNo: 0, auditor: 'a', auditorKind: 'coordinator', verdict, sameClass: true, score: { margin: 1 } },
    ];
    await Promise.all([
      grouped.saveFindings(first.lease, found('good')),
      grouped.saveFindings(second.lease, found('bad')),
      grouped.saveFindings(second.lease, []),
    ]);
    const findings = await Promise.all([first.lease, second.lease, stranger].map((lease) => grouped.findings(lease)));
    expect(findings).toEqual([found('good'), found('bad'), []]);
    const records = await Promise.all([grouped.nodeRecords([node]), grouped.nodeRecords(['nobody'])]);
    expect(records.map(({ size }) => size)).toEqual([1, 0]);
  });
});

describe('jobs that end', () => {
  it('past their deadline keep what was earned: checkpointed rows get their verdict, the others expire', async () => {
    const [node, job] = [await world.node(), await world.batch(40)];
    const [delivered, half, idle] = [
      await world.lease(job, node, 0, 10),
      await world.lease(job, node, 10, 20),
      await world.lease(job, node, 20, 30),
    ];
    await world.deliver(delivered);
    await store.checkpoint(half, world.rows(half, 0, 4), world.at(half, 4));
    await market.database.query(`UPDATE job SET deadline = clock_timestamp() - interval '1 second' WHERE id = $1`, [
      job,
    ]);
    expect(await store.expireJobs()).not.toContain(job);
    expect((await store.view(idle))?.state).toBe('expired');
    expect(await world.rowStates(job)).toEqual({ pending: 14, expired: 26 });
    expect((await world.accept(delivered)).moved).toBe(true);
    expect(await world.accept(half)).toMatchObject({ charge: 40n, jobDone: true });
    expect(await world.job(job)).toMatchObject({
      state: 'finalizing',
      rows_succeeded: 14,
      rows_ended: 26,
      charged: '140',
    });
  });

  it('stop waiting for a verdict after the grace', async () => {
    const [node, job] = [await world.node(), await world.batch(10)];
    const lease = await world.lease(job, node, 0, 10);
    await world.deliver(lease);
    await market.database.query(`UPDATE job SET deadline = clock_timestamp() - interval '11 minutes' WHERE id = $1`, [
      job,
    ]);
    expect(await store.expireJobs()).toContain(job);
    expect((await world.accept(lease)).moved).toBe(false);
  });

  it('end the open rows of a cancelled batch and hand it on to who writes the files', async () => {
    const [node, job] = [await world.node(), await world.batch(20)];
    await world.lease(job, node, 0, 10);
    await market.database.query(`UPDATE job SET state = 'cancelling', cancelling_at = now() WHERE id = $1`, [job]);
    expect(await store.expireJobs()).toContain(job);
    expect(await world.rowStates(job)).toEqual({ cancelled: 20 });
    expect(await world.job(job)).toMatchObject({ state: 'finalizing', rows_ended: 20 });
  });

  it('tell the requester of a fine-tune that its closed order ended it, as its error and once in its events', async () => {
    const closed = { state: 'closing', closeEpoch: OPEN_EPOCH, reserved: 100n, spent: 0n } as const;
    const job = await world.batch(10, { orders: [closed] });
    await market.database.query(`UPDATE job SET kind = 'fine-tune' WHERE id = $1`, [job]);
    await market.database.query(`INSERT INTO fine_tune (job_id, base, seed, asked) VALUES ($1, 'm', 1, '{}')`, [job]);
    await store.expireJobs();
    await store.expireJobs();
    const fineTunes = new PgFineTuneStore(market.database);
    expect(await fineTunes.finish(job, { model: null, files: [], fault: null })).toBe(true);
    const tune = await fineTunes.find(job);
    expect([tune?.job.state, tune?.job.faults?.[0]?.code]).toEqual(['cancelled', UNCOVERED.code]);
    const listed = await fineTunes.events(tune?.job.orgId ?? '', job, { limit: 9, after: null });
    expect(listed?.items.map(({ level, message }) => [level, message])).toEqual([
      ['info', expect.stringContaining(UNCOVERED.message)],
      ['warn', UNCOVERED.message],
    ]);
  });
});

leaseStoreSuite('PostgreSQL', () => world);
