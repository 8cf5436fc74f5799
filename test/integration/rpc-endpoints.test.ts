import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { EscrowClient, openDevnetOrder, RpcBlocks, RpcEndpoints, type EndpointNote } from '@freehold/chain';
import { RpcFaultProxy, type RpcMood } from '@freehold/testing';
import { privateKeyToAccount } from 'viem/accounts';
import { newKey, SettlementBench } from './settlement-bench.ts';

let bench: SettlementBench;
let proxies: readonly RpcFaultProxy[] = [];
let notes: EndpointNote[] = [];

beforeAll(async () => {
  bench = await SettlementBench.start();
}, 60_000);
afterAll(() => bench.close());
beforeEach(async () => {
  proxies = await Promise.all([1, 2, 3].map(() => RpcFaultProxy.before(bench.anvil.url)));
  notes = [];
});
/** After every fault: the books are exact. */
afterEach(async () => {
  await Promise.all(proxies.map((proxy) => proxy.close()));
  await bench.sync();
  const facts = await bench.facts();
  expect(await bench.escrowOfLedger()).toBe(facts.escrowBalance);
});

function endpoints(count: number): RpcEndpoints {
  const urls = proxies.slice(0, count).map(({ url }) => url);
  return new RpcEndpoints(urls, {
    chainId: bench.devnet.chainId,
    note: (note) => notes.push(note),
    pauseMs: 1,
    timeoutMs: 2_000,
  });
}

const escrowOver = (rpcUrl: RpcEndpoints): EscrowClient =>
  new EscrowClient({ rpcUrl, escrow: bench.devnet.escrow, book: bench.devnet.book });
const setMood = (index: number, mood: RpcMood): void => {
  const proxy = proxies[index];
  if (proxy !== undefined) proxy.mood = mood;
};
const deposit = (): Promise<number> =>
  openDevnetOrder(bench.anvil.url, newKey(), bench.devnet, { reserved: 1_000n, free: 0n, salt: newKey() });
const wishOf = (ref: string) => ({
  purpose: 'payee',
  ref,
  call: bench.escrow.addPayee(privateKeyToAccount(newKey()).address),
});

describe('two endpoints', () => {
  it('are read like one while they agree', async () => {
    const escrow = escrowOver(endpoints(2));
    await deposit();
    await expect(bench.sync(escrow)).resolves.toMatchObject({ undone: 0 });
    await expect(escrow.head()).resolves.toEqual(await bench.escrow.head());
    await expect(escrow.bookNow()).resolves.toEqual(await bench.escrow.bookNow());
    expect(notes).toEqual([]);
  });

  it('book no credit that only one of them has seen, and book it once when both have', async () => {
    const escrow = escrowOver(endpoints(2));
    await bench.sync(escrow);
    const before = await bench.escrowOfLedger();
    setMood(1, 'lies-about-logs');
    await deposit();
    await expect(bench.sync(escrow)).rejects.toThrow(/do not agree on eth_getLogs: #1 127.*; #2 127/);
    expect(await bench.escrowOfLedger()).toBe(before);
    setMood(1, 'honest');
    await bench.sync(escrow);
    await bench.sync(escrow);
    expect(await bench.escrowOfLedger()).toBe(before + 1_000n);
  });

  it('hold nothing for confirmed on the word of one that has a receipt for everything', async () => {
    const sender = bench.newSender({ rpcUrl: endpoints(2) });
    setMood(0, 'lies-about-receipts');
    setMood(1, 'loses-transactions');
    const wish = wishOf('lied-about');
    // The liar takes it to the chain as well; the other has no receipt until the block is there for all.
    await sender.submit(wish);
    await expect(sender.tick()).rejects.toThrow(/do not agree on eth_getTransactionReceipt/);
    for (const index of [0, 1]) setMood(index, 'honest');
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 1 });
    await expect(sender.submit(wish)).resolves.toMatchObject({ state: 'confirmed' });
  });

  it('follow the lower one while the other has stopped hearing of blocks, and say which it is', async () => {
    const escrow = escrowOver(endpoints(2));
    setMood(1, 'stale');
    const at = await escrow.head();
    await deposit();
    await bench.passTime(1);
    for (let i = 0; i < 6; i += 1) await bench.passTime(1);
    for (let i = 0; i < 4; i += 1) await expect(escrow.head()).resolves.toEqual(at);
    expect(notes).toEqual([
      { endpoint: expect.stringMatching(/^#2 /), what: 'set aside', why: expect.stringMatching(/^is stale: at block/) },
    ]);
    setMood(1, 'honest');
    await expect(escrow.head()).resolves.toEqual(await bench.escrow.head());
  });

  it.each(['limits', 'truncates', 'other-chain'] as const)(
    'conclude nothing while one of them %s, and go on when it is well again',
    async (mood) => {
      const escrow = escrowOver(endpoints(2));
      setMood(1, mood);
      await deposit();
      await expect(bench.sync(escrow)).rejects.toThrow(/do not agree on/);
      setMood(1, 'honest');
      await expect(bench.sync(escrow)).resolves.toMatchObject({ undone: 0 });
    },
    30_000,
  );
});

describe('three endpoints', () => {
  it.each([
    ['lies-about-logs', /says otherwise than 2 others on eth_getLogs/],
    ['other-chain', /serves chain 1, expected 31337/],
    ['limits', /too many requests/],
    ['truncates', /./],
  ] as const)(
    'outvote one that %s, name it and leave it out until it is well again',
    async (mood, why) => {
      const escrow = escrowOver(endpoints(3));
      setMood(0, mood);
      for (let i = 0; i < 4; i += 1) {
        await deposit();
        await bench.sync(escrow);
      }
      const facts = await bench.facts();
      expect(await bench.escrowOfLedger()).toBe(facts.escrowBalance);
      expect(notes[0]).toEqual({
        endpoint: expect.stringMatching(/^#1 127/),
        what: 'set aside',
        why: expect.stringMatching(why),
      });
    },
    30_000,
  );

  it('confirm what two have seen though the third denies it', async () => {
    const sender = bench.newSender({ rpcUrl: endpoints(3) });
    setMood(2, 'denies-receipts');
    const wish = wishOf('denied');
    await sender.submit(wish);
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 1, failed: 0 });
    await expect(sender.submit(wish)).resolves.toMatchObject({ state: 'confirmed' });
  });

  it('get a transaction through though only one of them takes any', async () => {
    const sender = bench.newSender({ rpcUrl: endpoints(3) });
    setMood(0, 'swallows-transactions');
    setMood(1, 'loses-transactions');
    const wish = wishOf('one-taker');
    await sender.submit(wish);
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 1 });
    expect(proxies.map(({ forwarded }) => forwarded.length)).toEqual([0, 0, 1]);
  });

  it('give the draw the hash that two of them name', async () => {
    const blocks = new RpcBlocks(endpoints(3));
    setMood(1, 'stale');
    const height = await blocks.height();
    await bench.passTime(1);
    await expect(blocks.hash(height + 1n)).resolves.toBe(await bench.escrow.hashOf(height + 1n));
  });
});

describe('the price of gas', () => {
  it('has a ceiling: an endpoint that asks for more makes us wait, and nothing is signed', async () => {
    setMood(0, 'dear');
    const sender = bench.newSender({ rpcUrl: proxies[0]?.url ?? '' });
    const wish = wishOf('dear');
    await expect(sender.submit(wish)).resolves.toMatchObject({
      state: 'refused',
      why: expect.stringMatching(/gas costs \d+ wei and the ceiling is 500000000000/),
    });
    expect(proxies[0]?.forwarded).toEqual([]);
    setMood(0, 'honest');
    await expect(sender.submit(wish)).resolves.toMatchObject({ state: 'pending' });
    await expect(sender.tick()).resolves.toMatchObject({ confirmed: 1 });
  });
});
