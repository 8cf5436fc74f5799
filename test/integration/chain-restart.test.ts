import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openDevnetOrder } from '@freehold/chain';
import { ledger } from '@freehold/domain';
import { newKey, SettlementBench } from './settlement-bench.ts';

let bench: SettlementBench;
let payer: Awaited<ReturnType<SettlementBench['selfCustodyOrg']>>;
const deposit = (reserved: bigint): Promise<number> =>
  openDevnetOrder(bench.anvil.url, payer.key, bench.devnet, { reserved, free: 0n, salt: newKey() });
const equal = async (): Promise<void> => expect(await bench.escrowOfLedger()).toBe((await bench.facts()).escrowBalance);

beforeAll(async () => {
  bench = await SettlementBench.start();
  payer = await bench.selfCustodyOrg();
  await bench.history.rememberChain(await bench.escrow.identity());
}, 60_000);
afterAll(() => bench.close());

describe('a chain that is killed', () => {
  it('and comes back without its last second has been reorganised: what is gone is taken back, what is left stays', async () => {
    await deposit(1_000n);
    await bench.sync();
    // The state is written every second: this is on disk, the next is not.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await deposit(500n);
    await bench.sync();
    await bench.restartAnvil('kept');
    await bench.sync();
    await equal();
    await deposit(250n);
    await bench.sync();
    await equal();
    const balance = await bench.balance(ledger.balanceOf(payer.org));
    // Killed between two writes, it may have kept the second deposit as well.
    expect([1_250n, 1_750n]).toContain(balance);
  }, 60_000);

  it('and comes back as another chain is refused by whoever is running: nothing is undone, and the way out is said', async () => {
    const before = await bench.escrowOfLedger();
    const balance = await bench.balance(ledger.balanceOf(payer.org));
    expect(balance).toBeGreaterThan(0n);
    await bench.restartAnvil('lost');
    await expect(bench.sync()).rejects.toThrow(/filled from chain .* Point RPC_URL to the first one/);
    await bench.passTime(1);
    await expect(bench.sync()).rejects.toThrow(/filled from chain/);
    expect(await bench.escrowOfLedger()).toBe(before);
    expect(await bench.balance(ledger.balanceOf(payer.org))).toBe(balance);
  }, 60_000);
});
