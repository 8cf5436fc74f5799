import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { PAYEES_MAX } from '@freehold/protocol';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { MarketWorld } from '../../test/market-world.ts';

let market: MarketDatabase;
let world: MarketWorld;
beforeAll(async () => {
  market = await marketDatabase();
  world = new MarketWorld(market.database);
}, 30_000);
afterAll(() => market.close());

/** The vouchers that come of one accepted row of a node that is paid at this address. */
async function vouchersFor(org: string, payout: string): Promise<number> {
  const node = await world.node();
  await market.database.query('UPDATE node SET payout = $2 WHERE id = $1', [node, payout]);
  const lease = await world.lease(await world.batch(1, { org }), node, 0, 1);
  await world.deliver(lease);
  expect(await world.store.accept(await world.acceptance(lease))).toMatchObject({ moved: true });
  const found = await market.database.query('SELECT 1 FROM voucher WHERE task_id = $1', [lease.task]);
  return found.length;
}

it('promises nothing to the payee zero, nor to one more than a book takes: it could never be posted', async () => {
  const org = await world.org();
  await world.openBook(org);
  await market.database.query('UPDATE chain_order SET is_operator = true WHERE org_id = $1', [org]);
  const known = `0x${'ab'.repeat(20)}`;
  expect(await vouchersFor(org, known)).toBe(1);
  expect(await vouchersFor(org, `0x${'00'.repeat(20)}`)).toBe(0);
  await market.database.query(
    `INSERT INTO chain_payee (book, payee) SELECT (SELECT book FROM chain_payee LIMIT 1), '0x' || lpad(to_hex(n), 40, '0')
     FROM generate_series(1, $1::int) AS n`,
    [PAYEES_MAX],
  );
  expect(await vouchersFor(org, `0x${'cd'.repeat(20)}`)).toBe(0);
  expect(await vouchersFor(org, known)).toBe(1);
});
