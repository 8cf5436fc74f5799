import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createSigner, ExitWallet, passChainTime } from '@freehold/chain';
import type { KeptVoucher } from '@freehold/protocol';
import { startAnvil, type EmbeddedAnvil } from '@freehold/wiring/embedded';
import { Receipts } from '../receipts.ts';
import { SettledWatch } from '../settled-watch.ts';
import { Book, EPOCH, GAS, GRACE, newKey, setBalance, WINDOW, type Result } from './book.fixture.ts';
import { relay } from './relay.ts';
import { verifyReceipts } from './verify-receipts.ts';

const DAY = 86_400;

let anvil: EmbeddedAnvil;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-exit-'));
  anvil = await startAnvil({ stateFile: join(folder, 'chain.json') });
}, 30_000);
afterAll(async () => {
  await anvil.stop('kill');
  rmSync(folder, { recursive: true, force: true });
});

const did = ({ books }: Result): readonly string[] => books.flatMap((book) => (book.did ?? []).map((step) => step.do));
const pass = (seconds: number): Promise<void> => passChainTime(anvil.url, seconds);

const openBook = (gas = GAS): Promise<Book> => Book.open({ rpcUrl: anvil.url, folder }, gas);

describe('a node that cashes out by itself', () => {
  it('says what it waits for and until when, sends nothing in a dry run, and finalises and withdraws when the time has come', async () => {
    const book = await openBook();
    await book.earn(300n);
    await book.earn(200n);
    const running = await book.cashout();
    expect(running).toMatchObject({
      code: 3,
      books: [{ owed: '500', steps: [], waits: [{ why: expect.stringContaining('epoch 0') }] }],
    });
    await pass(EPOCH);
    await book.post(520n, 500n);
    expect(await book.cashout()).toMatchObject({
      code: 3,
      books: [{ waits: [{ why: expect.stringContaining('window') }] }],
    });
    await pass(WINDOW);
    const dry = await book.cashout({ dryRun: true });
    expect(dry).toMatchObject({ code: 3, books: [{ steps: [{ do: 'finalise' }], did: [] }] });
    expect(await book.paid()).toBe(0n);
    const paid = await book.cashout();
    expect(paid.code).toBe(0);
    expect(did(paid)).toEqual(['finalise', 'withdraw']);
    expect(await book.paid()).toBe(500n);
    expect(JSON.parse(readFileSync(join(book.data, 'settled.json'), 'utf8'))).toEqual({
      [`${book.devnet.book}/0`]: '500',
    });
    expect(await book.cashout()).toMatchObject({ code: 0, books: [{ owed: '0', did: [] }] });
  });

  it('contests a posting that leaves it out, registers itself for that, and is paid by the amended one', async () => {
    const book = await openBook();
    await book.earn(700n);
    await pass(EPOCH);
    await book.post(0n, 0n, false);
    const contested = await book.cashout();
    expect(did(contested)).toEqual(['enrol', 'contest']);
    expect(contested).toMatchObject({
      code: 3,
      books: [{ waits: [{ why: expect.stringContaining('has to be posted') }] }],
    });
    await book.post(720n, 700n);
    await pass(WINDOW);
    expect(did(await book.cashout())).toEqual(['finalise', 'withdraw']);
    expect(await book.paid()).toBe(700n);
  });

  it('is paid from a book that its coordinator left for ever, to the unit, and the requester has exactly the rest back', async () => {
    const book = await openBook();
    await book.earn(300n);
    await book.earn(123n);
    await pass(EPOCH + GRACE);
    expect(await book.cashout({ dryRun: true })).toMatchObject({ books: [{ owed: '423' }] });
    await pass(5);
    const declared = await book.cashout();
    expect(did(declared)).toEqual(['declare-missed']);
    expect(declared).toMatchObject({
      code: 3,
      books: [{ owed: '423', waits: [{ why: expect.stringContaining('notice') }] }],
    });
    expect(await book.refund()).toMatchObject({ code: 3, did: [], waits: [expect.anything()] });
    await pass(DAY);
    const cashed = await book.cashout();
    expect(cashed.code).toBe(0);
    expect(did(cashed)).toEqual(['enrol', 'cash', 'withdraw']);
    expect(await book.paid()).toBe(423n);
    expect(await book.cashout()).toMatchObject({ code: 0, books: [{ owed: '0', did: [] }] });
    await pass(30 * DAY);
    expect(await book.refund()).toMatchObject({ code: 0, did: [{ do: 'refund' }] });
    expect(await book.paid(book.payer)).toBe(book.deposit - 423n);
    expect(await book.refund()).toMatchObject({ code: 0, did: [] });
  });

  it('without gas is told the address and the amount, and goes by a relayer that keeps exactly its fee', async () => {
    const book = await openBook(0n);
    await book.earn(400n);
    await pass(EPOCH + GRACE + 5);
    const short = await book.cashout();
    expect(short).toMatchObject({
      code: 1,
      books: [{ refused: { why: expect.stringMatching(/needs up to 0\.\d+ .*has 0\. /) } }],
    });
    expect(short.books[0]?.refused?.why).toContain(book.node);
    const relayerKey = newKey();
    const relayer = createSigner(relayerKey, book.devnet).address;
    const keyFile = join(book.data, 'relayer.key');
    writeFileSync(keyFile, relayerKey);
    await setBalance(anvil.url, relayer, GAS);
    const handedOver = async (): Promise<void> => {
      const signed = await book.cashout({ relayer, relayFee: '25' });
      expect(signed.code).toBe(3);
      expect(await relay(join(book.data, 'relay.json'), { rpc: anvil.url, key: keyFile }, () => undefined)).toBe(0);
    };
    await handedOver();
    expect((await book.client.bookFacts()).stage).toBe('dead');
    await pass(DAY);
    await handedOver();
    expect(await book.paid()).toBe(375n);
    expect(await book.paid(relayer)).toBe(25n);
    const other = join(book.data, 'other.key');
    writeFileSync(other, newKey());
    await expect(relay(join(book.data, 'relay.json'), { rpc: anvil.url, key: other }, () => undefined)).rejects.toThrow(
      /signed for relayer/,
    );
    await expect(
      relay(join(book.data, 'relay.json'), { rpc: anvil.url, key: keyFile }, () => undefined),
    ).rejects.toThrow(/would revert/);
  });

  it('by a relayer goes on after a run that was cut, and after a step that anybody else did', async () => {
    const book = await openBook(0n);
    await book.earn(400n);
    await pass(EPOCH + GRACE + 5);
    const relayerKey = newKey();
    const keyFile = join(book.data, 'relayer.key');
    writeFileSync(keyFile, relayerKey);
    const relayer = createSigner(relayerKey, book.devnet).address;
    await setBalance(anvil.url, relayer, GAS);
    const wallet = new ExitWallet({ rpcUrl: anvil.url, privateKey: relayerKey });
    await wallet.send(await book.client.callOf({ do: 'declare-missed', epoch: 0n }, book.node));
    await pass(DAY);
    expect((await book.cashout({ relayer, relayFee: '25' })).code).toBe(3);
    const { steps } = JSON.parse(readFileSync(join(book.data, 'relay.json'), 'utf8')) as {
      steps: { do: string; claim: KeptVoucher }[];
    };
    expect(steps.map((step) => step.do)).toEqual(['enrol', 'cash']);
    const claim = steps[0]?.claim as KeptVoucher; // The first of two, as just seen.
    await wallet.send(await book.client.callOf({ do: 'enrol', epoch: 0n, claim }, book.node));
    const out: string[] = [];
    const options = { rpc: anvil.url, key: keyFile };
    expect(await relay(join(book.data, 'relay.json'), options, (line) => out.push(line))).toBe(0);
    expect(out.map((line) => line.split(':')[0])).toEqual(['not sent, because it would revert', 'did', 'did']);
    expect(await book.paid()).toBe(375n);
  });

  it('leaves out what the book’s delegate did not sign, and pays the rest', async () => {
    const book = await openBook();
    await book.earn(100n);
    const path = join(book.data, 'receipts', 'task-1.json');
    const kept = JSON.parse(readFileSync(path, 'utf8')) as { voucher: Record<string, unknown> };
    const forged = { ...kept, voucher: { ...kept.voucher, cumulative: '900', total: '900' } };
    writeFileSync(join(book.data, 'receipts', 'forged.json'), JSON.stringify(forged));
    writeFileSync(join(book.data, 'receipts', 'torn.json'), '{"receipt":');
    const out = await book.cashout({ dryRun: true });
    expect(out).toMatchObject({
      books: [{ owed: '100', refusedVouchers: [{ why: expect.stringContaining('delegate') }] }],
    });
  });

  it('refuses an endpoint of another chain, and one of the same number without the book', async () => {
    const book = await openBook();
    await book.earn(100n);
    const [foreign, empty] = await Promise.all([
      startAnvil({ stateFile: join(folder, 'foreign.json'), chainId: 4_242 }),
      startAnvil({ stateFile: join(folder, 'empty.json') }),
    ]);
    try {
      const elsewhere = await book.cashout({ rpc: foreign.url });
      expect(elsewhere).toMatchObject({
        code: 1,
        books: [{ refused: { why: expect.stringMatching(/chain 4242.*chain 31337/) } }],
      });
      expect(await book.cashout({ rpc: empty.url })).toMatchObject({
        code: 1,
        books: [{ refused: { why: expect.stringContaining('no contract') } }],
      });
      const out: string[] = [];
      const options = { rpc: foreign.url, json: true };
      expect(await verifyReceipts(join(book.data, 'receipts'), options, (line) => out.push(line))).toBe(1);
      expect(JSON.parse(out[0] ?? '')).toMatchObject({ faults: [{ field: 'coordinator' }] });
    } finally {
      await Promise.all([foreign.stop('kill'), empty.stop('kill')]);
    }
  });

  it('goes on after a run that was cut: what is on the chain is not done again', async () => {
    const book = await openBook();
    await book.earn(50n);
    await pass(EPOCH + GRACE + 5);
    const wallet = new ExitWallet({ rpcUrl: anvil.url, privateKey: book.nodeKey });
    await wallet.send(await book.client.callOf({ do: 'declare-missed', epoch: 0n }, book.node));
    await pass(DAY);
    const voucher = JSON.parse(readFileSync(join(book.data, 'receipts', 'task-1.json'), 'utf8')) as {
      voucher: KeptVoucher;
    };
    await wallet.send(await book.client.callOf({ do: 'enrol', epoch: 0n, claim: voucher.voucher }, book.node));
    expect(did(await book.cashout())).toEqual(['cash', 'withdraw']);
    expect(await book.paid()).toBe(50n);
  });
});

describe('what a node has at stake, as it reads it from the chain itself', () => {
  /** The exposure before and after a look, and what the node wrote into its log. */
  async function look(book: Book, rpcUrl = anvil.url): Promise<{ left: bigint; log: string[] }> {
    const receipts = await Receipts.open(book.data, () => undefined);
    const log: string[] = [];
    const watch = new SettledWatch({
      dataDir: book.data,
      rpcUrl,
      payout: book.node,
      log: (event) => void log.push(event),
    });
    await watch.look(await receipts.open());
    await watch.look(await receipts.open());
    return { left: await receipts.uncashed(), log };
  }
  const finalise = async (book: Book): Promise<void> => {
    const wallet = new ExitWallet({ rpcUrl: anvil.url, privateKey: book.delegateKey });
    await wallet.send(await book.client.callOf({ do: 'finalise', epoch: 0n }, book.node));
  };

  it('falls when an epoch is final, not when it is posted', async () => {
    const book = await openBook();
    await book.earn(500n);
    expect((await look(book)).left).toBe(500n);
    await pass(EPOCH);
    await book.post(520n, 500n);
    expect((await look(book)).left).toBe(500n);
    await pass(WINDOW);
    await finalise(book);
    expect(await look(book)).toEqual({ left: 0n, log: [] });
  });

  it('falls by what was credited alone when an epoch became final with less, and says so once', async () => {
    const book = await openBook();
    await book.earn(500n);
    await pass(EPOCH);
    await book.post(420n, 400n);
    await pass(WINDOW);
    await finalise(book);
    expect(await look(book)).toEqual({ left: 100n, log: ['epoch-paid-short'] });
  });

  it('falls when the vouchers of a dead book are cashed, whoever sent them', async () => {
    const book = await openBook();
    await book.earn(423n);
    await pass(EPOCH + GRACE + 5);
    await book.cashout();
    expect((await look(book)).left).toBe(423n);
    await pass(DAY);
    await book.cashout();
    rmSync(join(book.data, 'settled.json'));
    expect(await look(book)).toEqual({ left: 0n, log: [] });
  });

  it('stays as it is where the endpoint serves another chain, which is said once', async () => {
    const book = await openBook();
    await book.earn(100n);
    const foreign = await startAnvil({ stateFile: join(folder, 'another.json'), chainId: 4_242 });
    try {
      expect(await look(book, foreign.url)).toEqual({ left: 100n, log: ['exposure-other-chain'] });
    } finally {
      await foreign.stop('kill');
    }
  });
});
