import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { createSigner, EscrowClient, RpcChainSender } from '@freehold/chain';
import { ledger } from '@freehold/domain';
import { issueVoucher, settleBook, syncChain } from '@freehold/market';
import { balanceOfAccount, PgChainHistory, PgChainTransactions, PgSettlementStore } from '@freehold/persistence';
import { prepareChain, prepareRequester, settleDevnet } from '../devnet.ts';
import { startAnvil, type EmbeddedAnvil } from '../embedded/index.ts';
import {
  FEE_BPS,
  HearingLink,
  marketDatabase,
  MarketWorld,
  type MarketDatabase,
} from '../../../../test/integration/settlement-bench.ts';

const TURN_MS = 100;
let dataDir: string;
let anvil: EmbeddedAnvil;
let market: MarketDatabase;

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'freehold-devnet-'));
  [anvil, market] = await Promise.all([
    startAnvil({ stateFile: join(dataDir, 'chain', 'state.json') }),
    marketDatabase(),
  ]);
}, 60_000);
afterAll(async () => {
  await Promise.all([anvil.stop('kill'), market.close()]);
  rmSync(dataDir, { recursive: true, force: true });
});

it('prepares a devnet once, and settles its open epoch while a coordinator runs', async () => {
  const where = { rpcUrl: anvil.url, dataDir, feeBps: FEE_BPS };
  const chain = await prepareChain(where);
  await expect(prepareChain(where)).resolves.toEqual(chain);
  const requester = await prepareRequester({ ...where, databaseUrl: market.url, chain });
  await expect(prepareRequester({ ...where, databaseUrl: market.url, chain })).resolves.toEqual(requester);
  expect(statSync(join(dataDir, 'requester.json')).mode & 0o777).toBe(0o600);
  const deposited = await balanceOfAccount(market.database, ledger.balanceOf(requester.orgId));
  expect(deposited).toBe(1_000_000_000n);

  const world = new MarketWorld(market.database);
  const job = await world.batch(20, { org: requester.orgId, trust: 'self-custody' });
  const lease = await world.lease(job, await world.node(), 0, 20);
  await world.deliver(lease);
  await world.accept(lease);
  const coordinator = runCoordinator(chain, lease.task);
  try {
    const settled = await settleDevnet({
      databaseUrl: market.url,
      rpcUrl: anvil.url,
      dataDir,
      chain,
      say: () => undefined,
    });
    // The fee stays until somebody withdraws it with a payout; providers are paid, and the requester has its rest back.
    expect(settled).toMatchObject({ balanced: true, escrow: settled.ledger });
    expect(BigInt(settled.escrow)).toBeLessThan(200n);
    expect(await balanceOfAccount(market.database, ledger.balanceOf(requester.orgId))).toBe(0n);
    const again = await prepareRequester({ ...where, databaseUrl: market.url, chain });
    expect(again.order).not.toBe(requester.order);
    expect(await balanceOfAccount(market.database, ledger.balanceOf(requester.orgId))).toBe(1_000_000_000n);
    expect(settled.transactions).toBeGreaterThanOrEqual(4);
  } finally {
    await coordinator.stop();
  }
}, 60_000);

/** What the scheduler does in turns. */
function runCoordinator(chain: Awaited<ReturnType<typeof prepareChain>>, task: string): { stop(): Promise<void> } {
  const key = `0x${readFileSync(join(dataDir, 'coordinator.key'), 'utf8').trim()}` as const;
  const transactions = new PgChainTransactions(market.database);
  const settlement = new PgSettlementStore(market.database);
  const escrow = new EscrowClient({ rpcUrl: anvil.url, escrow: chain.escrow, book: chain.book });
  const history = new PgChainHistory(market.database, {
    book: chain.book,
    escrow: chain.escrow.toLowerCase(),
    operatorPayer: null,
  });
  const sender = new RpcChainSender({
    rpcUrl: anvil.url,
    chainId: chain.chainId,
    privateKey: key,
    transactions,
    confirmations: 1,
  });
  const signer = createSigner(key, chain);
  let stopped = false;
  const turns = (async () => {
    await issueVoucher({ settlement, signer, link: new HearingLink() }, task);
    while (!stopped) {
      await syncChain({ escrow, history, fromBlock: BigInt(chain.fromBlock), depth: 0n });
      await sender.tick();
      await settleBook({
        escrow,
        sender,
        settlement,
        workLog: null,
        payoutMin: 1n,
        payoutsHalted: () => Promise.resolve(null),
      });
      await new Promise((resolve) => setTimeout(resolve, TURN_MS));
    }
  })();
  return {
    stop: async () => {
      stopped = true;
      await turns;
    },
  };
}
