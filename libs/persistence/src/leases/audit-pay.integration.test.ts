import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { AuditDue } from '@freehold/domain';
import type { LeaseRef } from '@freehold/protocol';
import { countingQueries, marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { FEE_BPS, MarketWorld, ROW_PRICE } from '../../test/market-world.ts';
import { PgSettlementStore } from '../chain/pg-settlement-store.ts';
import { runDoctor } from '../doctor/index.ts';

let market: MarketDatabase;
let world: MarketWorld;
beforeAll(async () => {
  market = await marketDatabase();
  world = new MarketWorld(market.database);
}, 30_000);
afterAll(() => market.close());

const ROWS = 20;
const CHARGE = ROW_PRICE * BigInt(ROWS);
const FEE = (CHARGE * BigInt(FEE_BPS)) / 10_000n;

/** A book and an order of their own for each test. */
async function orgWithOrder(): Promise<{ org: string; book: string }> {
  const org = await world.org();
  const book = `0x${Buffer.from(org.padEnd(32, '.')).subarray(0, 32).toString('hex')}`;
  // One book at a time is open: an acceptance goes into the newest with room.
  await market.database.query(`UPDATE chain_book SET state = 'dead'`);
  await world.openBook(org, book);
  await market.database.query('UPDATE chain_order SET is_operator = true WHERE book = $1', [book]);
  return { org, book };
}

async function delivered(job: string, node: string, part = 0): Promise<LeaseRef> {
  const lease = await world.lease(job, node, part * ROWS, (part + 1) * ROWS);
  await world.deliver(lease);
  const [row] = await world.store.delivered(lease);
  await world.store.saveDraw(lease, `0x${'5e'.repeat(32)}`, [row?.rowNo ?? 0]);
  await world.store.saveFindings(lease, [
    { rowNo: row?.rowNo ?? 0, auditor: 'b', auditorKind: 'node', verdict: 'good', sameClass: true, score: {} },
  ]);
  return lease;
}

async function accept(lease: LeaseRef, audits: (fee: bigint) => readonly AuditDue[]): Promise<unknown> {
  return world.store.accept({ ...(await world.acceptance(lease)), audits });
}

async function earned(node: string): Promise<bigint> {
  const [row] = await market.database.query<{ balance: string }>(
    `SELECT a.balance FROM node JOIN account a ON a.kind = 'provider' AND a.owner = node.payout WHERE node.id = $1`,
    [node],
  );
  return BigInt(row?.balance ?? 0);
}

describe('an auditor', () => {
  it('is paid once out of the fee, with a receipt and a voucher of its own, however often acceptance runs', async () => {
    const { org, book } = await orgWithOrder();
    const [worker, auditor] = [await world.node(), await world.node()];
    const lease = await delivered(await world.batch(ROWS, { org }), worker);
    const audits = (fee: bigint): AuditDue[] => [{ auditor, rows: 1, amount: fee / 2n }];
    await Promise.all([accept(lease, audits), accept(lease, audits), accept(lease, audits)]);
    expect(await earned(auditor)).toBe(FEE / 2n);
    expect(await earned(worker)).toBe(CHARGE - FEE);
    const vouchers = await market.database.query<{ task_id: string }>(
      `SELECT kind, gross, net, total, task_id FROM voucher WHERE book = $1 ORDER BY kind DESC`,
      [book],
    );
    const audit = { kind: 'audit', gross: '0', net: String(FEE / 2n), total: String(FEE / 2n) };
    const work = { kind: 'work', gross: String(CHARGE), net: String(CHARGE - FEE), total: String(CHARGE - FEE) };
    expect(vouchers).toMatchObject([work, audit]);
    const settlement = new PgSettlementStore(market.database);
    const told = await settlement.acceptance(vouchers[1]?.task_id ?? '');
    expect(told).toMatchObject({
      nodeId: auditor,
      document: { kind: 'audit', charge: String(FEE / 2n), fee: '0', audited: { task: lease.task, epoch: 1 } },
      claim: { cumulative: FEE / 2n, total: FEE / 2n },
    });
    await settlement.closeEpoch(book, 1n);
    const [epoch] = await market.database.query('SELECT fee, debits FROM chain_epoch WHERE book = $1 AND epoch = 1', [
      book,
    ]);
    expect(epoch).toEqual({ fee: String(FEE - FEE / 2n), debits: { '0': String(CHARGE) } });
    expect((await runDoctor(market.database)).violations).toEqual([]);
  });

  it('of a rejected lease is owed, and paid by the next fee that leaves enough', async () => {
    const { org } = await orgWithOrder();
    const [cheat, honest, auditor] = [await world.node(), await world.node(), await world.node()];
    const job = await world.batch(2 * ROWS, { org });
    const bad = await delivered(job, cheat);
    const due = [{ auditor, rows: 1, amount: FEE }];
    await world.store.reject(bad, 'bad', 1, 0, due);
    await world.store.reject(bad, 'bad', 1, 0, due);
    expect(await earned(auditor)).toBe(0n);
    await accept(await delivered(job, honest, 1), () => []);
    expect(await earned(auditor)).toBe(FEE);
    expect(await earned(cheat)).toBe(0n);
    expect((await runDoctor(market.database)).violations).toEqual([]);
  });

  it('gets no more than the fee of the work that pays it, and the rest when a later one can', async () => {
    const { org } = await orgWithOrder();
    const [worker, auditor] = [await world.node(), await world.node()];
    const job = await world.batch(3 * ROWS, { org });
    await accept(await delivered(job, worker), () => [{ auditor, rows: 1, amount: FEE + 1n }]);
    await accept(await delivered(job, worker, 1), () => []);
    expect(await earned(auditor)).toBe(0n);
    expect((await runDoctor(market.database)).violations).toEqual([]);
  });

  it('waits behind nobody whose due is larger than any fee that comes', async () => {
    const { org } = await orgWithOrder();
    const worker = await world.node();
    const [large, small] = [await world.node(), await world.node()];
    const job = await world.batch(11 * ROWS, { org });
    for (let part = 0; part < 9; part += 1)
      await world.store.reject(await delivered(job, worker, part), 'bad', 1, 0, [
        { auditor: large, rows: 1, amount: FEE + 1n },
      ]);
    await world.store.reject(await delivered(job, worker, 9), 'bad', 1, 0, [{ auditor: small, rows: 1, amount: 1n }]);
    await accept(await delivered(job, await world.node(), 10), () => []);
    expect(await earned(small)).toBe(1n);
    expect(await earned(large)).toBe(0n);
    await market.database.query('DELETE FROM audit_receipt WHERE paid_by IS NULL');
  });

  it('and its auditor may be each other at the same moment: no transaction waits in a circle', async () => {
    const { org, book } = await orgWithOrder();
    const [a, b] = [await world.node(), await world.node()];
    const job = await world.batch(8 * ROWS, { org });
    const leases = [];
    for (let part = 0; part < 8; part += 1)
      leases.push({ lease: await delivered(job, part % 2 === 0 ? a : b, part), auditor: part % 2 === 0 ? b : a });
    const outcomes = await Promise.all(
      leases.map(({ lease, auditor }) => accept(lease, (fee) => [{ auditor, rows: 1, amount: fee }])),
    );
    expect(outcomes).toHaveLength(8);
    expect(await earned(a)).toBe(4n * CHARGE);
    expect(await earned(b)).toBe(4n * CHARGE);
    const [sums] = await market.database.query(
      'SELECT sum(net)::text AS credits, sum(gross)::text AS debits FROM voucher WHERE book = $1',
      [book],
    );
    expect(sums).toEqual({ credits: String(8n * CHARGE), debits: String(8n * CHARGE) });
    expect((await runDoctor(market.database)).violations).toEqual([]);
  });
});

describe('vouchers of one window', () => {
  /** Two leases of one node. */
  async function accepted(): Promise<{ node: string; tasks: string[] }> {
    const { org } = await orgWithOrder();
    const node = await world.node();
    const job = await world.batch(2 * ROWS, { org });
    const leases = [await delivered(job, node), await delivered(job, node, 1)];
    for (const lease of leases) await accept(lease, () => []);
    return { node, tasks: leases.map(({ task }) => task) };
  }
  const bytes = (count: number, of: number): string => `0x${Buffer.alloc(count, of).toString('hex')}`;
  const hash = (n: number): string => bytes(32, n);
  const signature = (n: number): string => bytes(65, n);

  it('are asked for, signed and kept by a statement or a commit each, every caller with its own answer', async () => {
    const { node, tasks } = await accepted();
    const [a = '', b = ''] = tasks;
    const stranger = '00000000-0000-4000-8000-000000000000';
    const counted = countingQueries(market.database);
    const sharing = new PgSettlementStore(counted.database, 20);
    const asked = await Promise.all([b, stranger, a].map((task) => sharing.acceptance(task)));
    expect(asked.map((one) => one?.task ?? null)).toEqual([b, null, a]);
    expect(counted.statements).toBe(1);
    const signed = await Promise.all([
      sharing.saveSignature(a, hash(1), signature(1)),
      sharing.saveSignature(b, hash(2), signature(2)),
    ]);
    expect(signed).toEqual([
      { receipt: hash(1), signature: signature(1) },
      { receipt: hash(2), signature: signature(2) },
    ]);
    expect(counted.statements).toBe(2);
    // Whoever signs it once more hears of the signature that stays.
    await expect(sharing.saveSignature(a, hash(3), signature(3))).resolves.toEqual(signed[0]);
    const before = counted.statements;
    await Promise.all([sharing.markKept(node, a), sharing.markKept('another node', b)]);
    expect(counted.statements - before).toBe(1);
    expect(
      (await sharing.unkept({ nodeId: node, delegate: `0x${'e5'.repeat(20)}` }, 10)).map(({ task }) => task),
    ).toEqual([b]);
  });

  it('are signed though one among them is none, and only that one fails', async () => {
    const [a = '', b = ''] = (await accepted()).tasks;
    const sharing = new PgSettlementStore(market.database, 20);
    const ended = await Promise.allSettled([
      sharing.saveSignature(a, hash(1), signature(1)),
      sharing.saveSignature('00000000-0000-4000-8000-000000000000', hash(2), signature(2)),
      sharing.saveSignature(b, hash(3), signature(3)),
    ]);
    expect(ended.map((one) => (one.status === 'fulfilled' ? one.value.receipt : String(one.reason)))).toEqual([
      hash(1),
      expect.stringContaining('has no voucher to sign'),
      hash(3),
    ]);
  });
});
