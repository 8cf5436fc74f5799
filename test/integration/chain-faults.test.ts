import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { openDevnetOrder } from '@freehold/chain';
import { ledger } from '@freehold/domain';
import type { EscrowCall } from '@freehold/market';
import { PgChainTransactions, PgLeadership } from '@freehold/persistence';
import { RpcFaultProxy } from '@freehold/testing';
import { createPublicClient, createTestClient, createWalletClient, http, parseTransaction, type Hex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { EPOCH_SECONDS, newKey, SettlementBench, WINDOW_SECONDS } from './settlement-bench.ts';

/** Dies right after the transaction is saved, as a killed process does: nothing was sent, nobody was told. */
class DiesAfterSaving extends PgChainTransactions {
  override async save(signed: Parameters<PgChainTransactions['save']>[0]): Promise<never> {
    await super.save(signed);
    throw new Error('killed between saving and sending');
  }
}

/** Of the depths of reorganisations; any other works as well. */
const SEED = 2026;

let bench: SettlementBench;
let node: string;
let payer: { readonly org: string; readonly key: Hex; readonly wallet: Hex };

beforeAll(async () => {
  bench = await SettlementBench.start();
  node = await bench.world.node();
  payer = await bench.selfCustodyOrg();
}, 60_000);
afterAll(() => bench.close());

/** After every fault: the books are exact, and nothing was paid twice. */
afterEach(async () => {
  await bench.sync();
  const facts = await bench.facts();
  expect(await bench.escrowOfLedger()).toBe(facts.escrowBalance);
  expect(facts.holdings?.tokens).toBe(facts.escrowBalance);
  await expect(bench.vouchersAddUp()).resolves.toBe(true);
});

const payee = async (): Promise<Hex> => {
  const [row] = await bench.market.database.query<{ payout: Hex }>('SELECT payout FROM node WHERE id = $1', [node]);
  return row?.payout ?? '0x';
};

describe('a sender that fails at the worst moment', () => {
  let endpoint: RpcFaultProxy;
  let call: EscrowCall;
  beforeEach(async () => {
    endpoint = await RpcFaultProxy.before(bench.anvil.url);
    call = bench.escrow.addPayee(privateKeyToAccount(newKey()).address);
  });
  afterEach(() => endpoint.close());

  const payeesOnChain = async (): Promise<number> =>
    (await bench.escrow.events(bench.devnet.fromBlock, (await bench.escrow.head()).number)).filter(
      ({ name }) => name === 'PayeeAdded',
    ).length;

  it('sends what was saved, and nothing else, when it was killed between saving and sending', async () => {
    const before = await payeesOnChain();
    const wish = { purpose: 'payee', ref: 'killed', call };
    const dying = bench.newSender({ transactions: new DiesAfterSaving(bench.market.database) });
    await expect(dying.submit(wish)).rejects.toThrow('killed');
    expect(await payeesOnChain()).toBe(before);
    const next = bench.newSender();
    await expect(next.submit(wish)).resolves.toMatchObject({ state: 'pending' });
    await expect(next.tick()).resolves.toMatchObject({ resent: 1 });
    await expect(next.tick()).resolves.toMatchObject({ confirmed: 1 });
    await expect(next.submit(wish)).resolves.toMatchObject({ state: 'confirmed' });
    expect(await payeesOnChain()).toBe(before + 1);
  });

  it('sends once when the answer to the sending was lost', async () => {
    const before = await payeesOnChain();
    const wish = { purpose: 'payee', ref: 'unanswered', call };
    const sender = bench.newSender({ rpcUrl: endpoint.url });
    endpoint.mood = 'loses-answers';
    await sender.submit(wish);
    await sender.submit(wish);
    endpoint.mood = 'honest';
    await sender.tick();
    await sender.tick();
    await expect(sender.submit(wish)).resolves.toMatchObject({ state: 'confirmed' });
    expect(new Set(endpoint.forwarded).size).toBe(1);
    expect(await payeesOnChain()).toBe(before + 1);
  });

  it.each(['loses-transactions', 'swallows-transactions'] as const)(
    'gets through an endpoint that %s, once it is gone',
    async (mood) => {
      const before = await payeesOnChain();
      const wish = { purpose: 'payee', ref: mood, call };
      const sender = bench.newSender({ rpcUrl: endpoint.url });
      endpoint.mood = mood;
      await sender.submit(wish);
      await sender.tick();
      expect(await payeesOnChain()).toBe(before);
      endpoint.mood = 'honest';
      await sender.tick();
      await sender.tick();
      await expect(sender.submit(wish)).resolves.toMatchObject({ state: 'confirmed' });
      expect(await payeesOnChain()).toBe(before + 1);
    },
  );

  it('raises the fee of what waits too long by what nodes ask for, and whichever is mined counts once', async () => {
    const before = await payeesOnChain();
    const test = createTestClient({ mode: 'anvil', transport: http(bench.anvil.url) });
    await test.setAutomine(false);
    const wish = { purpose: 'payee', ref: 'slow', call };
    const sender = bench.newSender({ rpcUrl: endpoint.url, replaceAfterMs: 0 });
    await sender.submit(wish);
    await expect(sender.tick()).resolves.toMatchObject({ replaced: 1 });
    await expect(sender.tick()).resolves.toMatchObject({ replaced: 1 });
    expect(endpoint.forwarded).toHaveLength(3);
    const signed = endpoint.forwarded.map((raw) => parseTransaction(raw as Hex));
    for (const [n, later] of signed.slice(1).entries()) {
      const earlier = signed[n];
      expect(later).toMatchObject({ nonce: earlier?.nonce, to: earlier?.to, data: earlier?.data });
      for (const fee of ['maxFeePerGas', 'maxPriorityFeePerGas'] as const)
        expect((later[fee] ?? 0n) * 1_000n).toBeGreaterThanOrEqual((earlier?.[fee] ?? 1n) * 1_125n);
    }
    await test.mine({ blocks: 1 });
    await test.setAutomine(true);
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 1 });
    await expect(sender.submit(wish)).resolves.toMatchObject({ state: 'confirmed' });
    expect(await payeesOnChain()).toBe(before + 1);
    const rows = await bench.market.database.query<{ state: string }>(
      `SELECT state FROM chain_transaction WHERE ref = 'slow'`,
    );
    expect(rows.map(({ state }) => state).sort()).toEqual(['confirmed', 'replaced', 'replaced']);
  });

  it('keeps what it saved, and says why, when its wallet was emptied before it could be sent', async () => {
    const before = await payeesOnChain();
    const wish = { purpose: 'payee', ref: 'emptied', call };
    const dying = bench.newSender({ transactions: new DiesAfterSaving(bench.market.database) });
    await expect(dying.submit(wish)).rejects.toThrow('killed');
    const test = createTestClient({ mode: 'anvil', transport: http(bench.anvil.url) });
    const address = bench.sender.address as Hex;
    const wei = await createPublicClient({ transport: http(bench.anvil.url) }).getBalance({ address });
    await test.setBalance({ address, value: 1n });
    const next = bench.newSender();
    for (let turn = 0; turn < 2; turn += 1)
      await expect(next.tick()).resolves.toEqual({
        ...{ confirmed: 0, failed: 0, resent: 0, replaced: 0 },
        waits: expect.stringMatching(
          /^payee emptied \(nonce \d+\): the wallet 0x\w+ has 1 wei and gas may take \d+; it waits/,
        ),
      });
    await test.setBalance({ address, value: wei });
    await expect(next.tick()).resolves.toMatchObject({ resent: 1, waits: null });
    await expect(next.tick()).resolves.toMatchObject({ confirmed: 1 });
    expect(await payeesOnChain()).toBe(before + 1);
  });

  it('says why a call would revert instead of paying for it', async () => {
    const wish = { purpose: 'refund', ref: 'nobody', call: bench.escrow.refund(99) };
    await expect(bench.sender.submit(wish)).resolves.toEqual({
      state: 'refused',
      why: expect.stringMatching(/^OrderUnknown\(0x.*, 99\)$/),
    });
  });

  it('waits with the reason while its wallet has no gas, and signs nothing that would hold up the next nonce', async () => {
    const before = await payeesOnChain();
    const wish = { purpose: 'payee', ref: 'poor', call };
    const test = createTestClient({ mode: 'anvil', transport: http(bench.anvil.url) });
    const address = bench.sender.address as Hex;
    const wei = await createPublicClient({ transport: http(bench.anvil.url) }).getBalance({ address });
    await test.setBalance({ address, value: 1n });
    const poor = await bench.sender.submit(wish);
    expect(poor).toEqual({ state: 'refused', why: expect.stringMatching(/has 1 wei and gas may take \d+; it waits/) });
    await expect(bench.transactions.find('payee', 'poor')).resolves.toBeNull();
    await test.setBalance({ address, value: wei });
    await expect(bench.sender.submit(wish)).resolves.toMatchObject({ state: 'pending' });
    await expect(bench.sender.tick()).resolves.toMatchObject({ confirmed: 1 });
    expect(await payeesOnChain()).toBe(before + 1);
  });

  it('signs for one leader only when two processes want the same', async () => {
    const before = await payeesOnChain();
    const wish = { purpose: 'payee', ref: 'contended', call };
    const senders = [bench.newSender(), bench.newSender()];
    await Promise.all(senders.map((sender) => sender.submit(wish)));
    for (const sender of senders) await sender.tick();
    await senders[0]?.tick();
    expect(await payeesOnChain()).toBe(before + 1);
    const office = new PgLeadership(bench.market.database);
    const inside = await office.attempt('chain', () => office.attempt('chain', () => Promise.resolve('both')));
    expect(inside).toBeNull();
    await expect(office.attempt('chain', () => Promise.resolve('again'))).resolves.toBe('again');
  });
});

describe('a chain that changes its mind', () => {
  it('takes a removed deposit back, even when it is spent already, and counts it once when it returns', async () => {
    const { org, key } = await bench.selfCustodyOrg();
    await openDevnetOrder(bench.anvil.url, key, bench.devnet, { reserved: 1_000n, free: 0n, salt: newKey() });
    await bench.sync();
    await bench.world.batch(60, { org, trust: 'self-custody' });
    await expect(bench.balance(ledger.balanceOf(org))).resolves.toBe(400n);
    const operator = await bench.balance(ledger.OPERATOR);

    await bench.reorg(1);
    await expect(bench.sync()).resolves.toMatchObject({ undone: 1 });
    await expect(bench.balance(ledger.balanceOf(org))).resolves.toBe(0n);
    await expect(bench.balance(ledger.OPERATOR)).resolves.toBe(operator - 600n);
    expect(await bench.escrowOfLedger()).toBe((await bench.facts()).escrowBalance);

    await openDevnetOrder(bench.anvil.url, key, bench.devnet, { reserved: 1_000n, free: 0n, salt: newKey() });
    await bench.sync();
    await expect(bench.balance(ledger.balanceOf(org))).resolves.toBe(400n);
    await expect(bench.balance(ledger.OPERATOR)).resolves.toBe(operator);
  });

  it('takes a confirmation back when the reorganisation goes deeper than confirmations do, and sends the same bytes again', async () => {
    const call = bench.escrow.addPayee(privateKeyToAccount(newKey()).address);
    const wish = { purpose: 'payee', ref: 'deeper', call };
    const sender = bench.newSender({ confirmations: 3 });
    await sender.submit(wish);
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 0 });
    await bench.mine(2);
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 1 });
    const first = await sender.submit(wish);
    if (first.state !== 'confirmed') throw new Error(`expected it to be confirmed, it is ${JSON.stringify(first)}`);
    await bench.sync();
    await bench.reorg(4);
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 0, resent: 1 });
    await expect(sender.submit(wish)).resolves.toEqual({ state: 'pending', hash: first.hash });
    await bench.sync();
    expect(await bench.escrowOfLedger()).toBe((await bench.facts()).escrowBalance);
    await bench.mine(2);
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 1 });
    await expect(sender.submit(wish)).resolves.toMatchObject({ state: 'confirmed', hash: first.hash });
    const rows = await bench.market.database.query(`SELECT 1 FROM chain_transaction WHERE ref = 'deeper'`);
    expect(rows).toHaveLength(1);
  });

  it(`posts, finalises and pays once though every step is taken back by a reorganisation (depths by seed ${SEED})`, async () => {
    const depths = fc.sample(fc.integer({ min: 1, max: 5 }), { seed: SEED, numRuns: 5 });
    await openDevnetOrder(bench.anvil.url, payer.key, bench.devnet, { reserved: 5_000n, free: 0n, salt: newKey() });
    // Nobody would send the payer's own deposit again: it lies deeper than any of these.
    await bench.mine(10);
    await bench.sync();
    const job = await bench.world.batch(40, { org: payer.org, trust: 'self-custody' });
    await bench.work(job, node, 0, 40);
    const owed = await bench.balance(ledger.providerOf(await payee()));
    await bench.passTime(EPOCH_SECONDS);
    for (let i = 0; i < 4; i += 1) {
      await bench.turn();
      await bench.reorg(depths[i] ?? 1);
      await bench.turn();
      expect(await bench.escrowOfLedger()).toBe((await bench.facts()).escrowBalance);
    }
    await bench.turnUntil(1n);
    await bench.reorg(depths[4] ?? 1);
    await bench.passTime(WINDOW_SECONDS);
    await bench.turnUntil(1n);
    await bench.turn();
    await bench.turn();
    const client = createPublicClient({ transport: http(bench.anvil.url) });
    const paid = await client.readContract({
      address: bench.devnet.token,
      abi: BALANCE_OF,
      functionName: 'balanceOf',
      args: [await payee()],
    });
    expect(paid).toBe(owed);
    await expect(bench.balance(ledger.payoutOf(await payee()))).resolves.toBe(0n);
  }, 60_000);

  it('refuses another chain than the one the ledger was filled from', async () => {
    await bench.history.rememberChain(await bench.escrow.identity());
    await bench.history.rememberChain(await bench.escrow.identity());
    const other = { ...(await bench.escrow.identity()), genesis: `0x${'00'.repeat(32)}` };
    await expect(bench.history.rememberChain(other)).rejects.toThrow(
      /filled from chain .* Point RPC_URL to the first one/,
    );
  });
});

describe('strangers', () => {
  it('may finalise our posting: it is read like our own, and we send nothing', async () => {
    const job = await bench.world.batch(10, { org: payer.org, trust: 'self-custody' });
    await bench.work(job, node, 0, 10);
    const next = (await bench.escrow.bookNow()).next;
    await bench.passTime(EPOCH_SECONDS);
    for (let i = 0; i < 6 && (await bench.escrow.bookNow()).stage !== 'posted'; i += 1) await bench.turn();
    await bench.passTime(WINDOW_SECONDS);
    const amounts = await bench.settlement.epoch(bench.escrow.book, next);
    const indices = await bench.settlement.payeeIndices(bench.escrow.book, [...(amounts?.credits.keys() ?? [])]);
    const credits = new Map([...(amounts?.credits ?? [])].map(([who, net]) => [indices.get(who) ?? 0, net]));
    await sendAsStranger(bench.escrow.finalise(amounts?.debits ?? new Map(), credits));
    await bench.turnUntil(next + 1n);
    const ours = await bench.market.database.query(
      `SELECT 1 FROM chain_transaction WHERE purpose = 'finalise' AND ref = $1`,
      [`${bench.escrow.book}:${next}`],
    );
    expect(ours).toHaveLength(0);
    await bench.turn();
    await expect(bench.doctor()).resolves.toEqual([]);
  });
});

const BALANCE_OF = [
  {
    type: 'function',
    name: 'balanceOf',
    stateMutability: 'view',
    inputs: [{ name: 'of', type: 'address' }],
    outputs: [{ name: '', type: 'uint256' }],
  },
] as const;

async function sendAsStranger(call: EscrowCall): Promise<void> {
  const account = privateKeyToAccount(newKey());
  const transport = http(bench.anvil.url);
  await createTestClient({ mode: 'anvil', transport }).setBalance({ address: account.address, value: 10n ** 18n });
  const hash = await createWalletClient({ account, transport }).sendTransaction({
    account,
    chain: null,
    to: call.to as Hex,
    data: call.data as Hex,
  });
  await createPublicClient({ transport, pollingInterval: 50 }).waitForTransactionReceipt({ hash });
}
