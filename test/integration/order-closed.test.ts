import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { closeDevnetOrder, deployDevnet, openDevnetOrder, tokenBalance } from '@freehold/chain';
import { ledger } from '@freehold/domain';
import type { Hex } from 'viem';
import { ROW_PRICE } from '../../libs/persistence/test/market-world.ts';
import { EPOCH_SECONDS, FEE_BPS, newKey, SettlementBench, WINDOW_SECONDS } from './settlement-bench.ts';

const DEPOSIT = 10_000n;
const LANES = { reserved: DEPOSIT, free: 0n, salt: `0x${'0c'.repeat(32)}` } as const;

describe('an order that its payer closes in the middle of a batch', () => {
  let bench: SettlementBench;
  let payer: Awaited<ReturnType<SettlementBench['selfCustodyOrg']>>;
  let order: number;
  let node: string;
  let job: string;

  beforeAll(async () => {
    bench = await SettlementBench.start();
    await bench.history.rememberChain(await bench.escrow.identity());
    payer = await bench.selfCustodyOrg();
    node = await bench.world.node();
    order = await openDevnetOrder(bench.anvil.url, payer.key, bench.devnet, LANES);
    await bench.sync();
  }, 60_000);
  afterAll(() => bench.close());

  it('is not topped up by the same order in somebody else’s escrow: a foreign event credits nobody', async () => {
    const foreign = await deployDevnet({
      rpcUrl: bench.anvil.url,
      deployerKey: newKey(),
      delegateKey: newKey(),
      feeBps: FEE_BPS,
      epochSeconds: EPOCH_SECONDS,
      windowSeconds: WINDOW_SECONDS,
    });
    await openDevnetOrder(bench.anvil.url, payer.key, foreign, LANES);
    expect((await bench.sync()).applied).toBe(0);
    await expect(bench.balance(ledger.balanceOf(payer.org))).resolves.toBe(DEPOSIT);
  });

  it('still pays for rows that are accepted until its last epoch is over', async () => {
    job = await bench.world.batch(200, { org: payer.org, trust: 'self-custody' });
    await bench.work(job, node, 0, 100);
    await closeDevnetOrder(bench.anvil.url, payer.key, bench.devnet, order);
    await bench.sync();
    const late = await bench.work(job, node, 100, 200);
    const vouchers = await bench.market.database.query(
      `SELECT 1 FROM voucher WHERE task_id = $1 AND order_index = $2 AND gross > 0`,
      [late, order],
    );
    expect(vouchers).toHaveLength(1);
  });

  it('pays its provider and refunds exactly the rest, once', async () => {
    const [closing] = await bench.market.database.query<{ close_epoch: string }>(
      'SELECT close_epoch FROM chain_order WHERE order_index = $1',
      [order],
    );
    await bench.passTime(2 * EPOCH_SECONDS);
    await bench.turnUntil(BigInt(closing?.close_epoch ?? '') + 1n);
    for (let i = 0; i < 3; i += 1) await bench.turn();
    const charged = 200n * ROW_PRICE;
    await expect(tokenBalance(bench.anvil.url, bench.devnet.token, payer.wallet)).resolves.toBe(DEPOSIT - charged);
    const [{ payout, net } = { payout: '', net: '0' }] = await bench.market.database.query<{
      payout: string;
      net: string;
    }>('SELECT payee AS payout, sum(net) AS net FROM voucher GROUP BY payee');
    await expect(tokenBalance(bench.anvil.url, bench.devnet.token, payout as Hex)).resolves.toBe(BigInt(net));
    await expect(bench.balance(ledger.balanceOf(payer.org))).resolves.toBe(0n);
    expect(await bench.escrowOfLedger()).toBe((await bench.facts()).escrowBalance);
  });
});
