import { mkdtempSync, readFileSync, rmSync, writeFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  createSigner,
  deployDevnet,
  EscrowClient,
  ExitClient,
  ExitWallet,
  openDevnetOrder,
  passChainTime,
  tokenBalance,
  type Devnet,
} from '@freehold/chain';
import { receiptHash, type KeptVoucher } from '@freehold/protocol';
import { startAnvil, type EmbeddedAnvil } from '@freehold/wiring/embedded';
import { cashout } from './cashout.ts';
import { refundOrder } from './order.ts';
import { relay } from './relay.ts';
import { verifyReceipts } from './verify-receipts.ts';

type Key = `0x${string}`;
const newKey = (): Key => `0x${randomBytes(32).toString('hex')}`;
const EPOCH = 60;
const WINDOW = 30;
const GRACE = 120;
const DAY = 86_400;
const GAS = 10n ** 18n;

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

/** A book whose coordinator does only what a test makes it do, a node with a folder, and a requester's order. */
class Book {
  readonly payerKey = newKey();
  readonly nodeKey = newKey();
  readonly data: string;
  readonly devnet: Devnet;
  readonly delegateKey: Key;
  readonly deposit = 10_000n;
  order = 0;
  params = '0x';
  #cumulative = 0n;
  #count = 0;

  private constructor(devnet: Devnet, delegateKey: Key) {
    this.devnet = devnet;
    this.delegateKey = delegateKey;
    this.data = mkdtempSync(join(folder, 'node-'));
    mkdirSync(join(this.data, 'receipts'));
    writeFileSync(join(this.data, 'node.key'), `${this.nodeKey.slice(2)}\n`, { mode: 0o600 });
    writeFileSync(this.payerFile, JSON.stringify({ walletKey: this.payerKey }));
  }

  static async open(gas = GAS): Promise<Book> {
    const delegateKey = newKey();
    const devnet = await deployDevnet({
      rpcUrl: anvil.url,
      deployerKey: newKey(),
      delegateKey,
      feeBps: 500,
      epochSeconds: EPOCH,
      windowSeconds: WINDOW,
      graceSeconds: GRACE,
      bond: 1_000n,
    });
    const book = new Book(devnet, delegateKey);
    const lanes = { reserved: book.deposit, free: 0n, salt: `0x${'07'.repeat(32)}` as Key };
    book.order = await openDevnetOrder(anvil.url, book.payerKey, devnet, lanes);
    book.params = (await book.client.order(book.order))?.params ?? '0x';
    await setBalance(book.node, gas);
    return book;
  }

  get payerFile(): string {
    return join(this.data, 'payer.json');
  }
  get node(): string {
    return createSigner(this.nodeKey, this.devnet).address;
  }
  get payer(): string {
    return createSigner(this.payerKey, this.devnet).address;
  }
  get client(): ExitClient {
    return new ExitClient({ rpcUrl: anvil.url, escrow: this.devnet.escrow, book: this.devnet.book });
  }

  /** The delegate promises `net` more, and the node keeps it. */
  async earn(net: bigint, epoch = 0): Promise<KeptVoucher> {
    this.#cumulative += net;
    this.#count += 1;
    const claim = {
      book: this.devnet.book.toLowerCase(),
      epoch: BigInt(epoch),
      payee: this.node,
      order: BigInt(this.order),
      orderParams: this.params,
      cumulative: this.#cumulative,
      total: this.#cumulative,
      receipt: receiptHash({ n: String(this.#count) }),
    };
    const signature = await createSigner(this.delegateKey, this.devnet).sign('DelegateVoucher', claim);
    const amount = String(this.#cumulative);
    const voucher = {
      ...claim,
      epoch: String(epoch),
      order: String(this.order),
      cumulative: amount,
      total: amount,
      signature,
    };
    const delegate = createSigner(this.delegateKey, this.devnet).address;
    const coordinator = `${this.devnet.chainId}/${this.devnet.escrow.toLowerCase()}/${delegate}`;
    const kept = { coordinator, delegate, receipt: { task: `task-${this.#count}` }, voucher };
    writeFileSync(join(this.data, 'receipts', `task-${this.#count}.json`), JSON.stringify(kept));
    return voucher;
  }

  /** What a coordinator would do: registers the node and posts so much for it. */
  async post(gross: bigint, credit: bigint, register = true): Promise<void> {
    const escrow = new EscrowClient({ rpcUrl: anvil.url, escrow: this.devnet.escrow, book: this.devnet.book });
    const wallet = new ExitWallet({ rpcUrl: anvil.url, privateKey: this.delegateKey });
    const send = async (what: string, call: { to: string; data: string }) =>
      await wallet.send({ what, to: call.to as Key, data: call.data as Key });
    if (register && (await this.client.payee(this.node)) === null) await send('register', escrow.addPayee(this.node));
    const index = (await this.client.payee(this.node))?.index;
    const { next } = await this.client.bookFacts();
    const credits = new Map(index === undefined ? [] : [[index, credit]]);
    await send('post', escrow.post(next, new Map([[this.order, gross]]), credits));
  }

  async paid(of = this.node): Promise<bigint> {
    return await tokenBalance(anvil.url, this.devnet.token, of as Key);
  }

  /** `freehold node cashout`, as JSON. */
  async cashout(options: Partial<Parameters<typeof cashout>[0]> = {}): Promise<Result> {
    const out: string[] = [];
    const all = { data: this.data, rpc: anvil.url, dryRun: false, json: true, ...options };
    const code = await cashout(all, (line) => out.push(line));
    return { code, ...(JSON.parse(out.at(-1) ?? '{}') as { books: Result['books'] }) };
  }

  /** `freehold order refund`, as JSON. */
  async refund(): Promise<{ code: number; did: { do: string }[]; waits: { until: string }[] }> {
    const out: string[] = [];
    const { escrow, book, chainId } = this.devnet;
    const words = {
      rpc: anvil.url,
      chain: String(chainId),
      escrow,
      book,
      order: String(this.order),
      key: this.payerFile,
    };
    const code = await refundOrder({ ...words, dryRun: false, json: true }, (line) => out.push(line));
    return { code, ...(JSON.parse(out.at(-1) ?? '{}') as { did: { do: string }[]; waits: { until: string }[] }) };
  }
}

interface Result {
  readonly code: number;
  readonly books: readonly {
    readonly owed?: string;
    readonly did?: readonly { readonly do: string }[];
    readonly steps?: readonly { readonly do: string }[];
    readonly waits?: readonly { readonly why: string; readonly until: string }[];
    readonly refused?: { readonly why: string };
    readonly refusedVouchers?: readonly unknown[];
  }[];
}

const did = ({ books }: Result): readonly string[] => books.flatMap((book) => (book.did ?? []).map((step) => step.do));
const pass = (seconds: number): Promise<void> => passChainTime(anvil.url, seconds);

async function setBalance(address: string, wei: bigint): Promise<void> {
  const call = { jsonrpc: '2.0', id: 1, method: 'anvil_setBalance', params: [address, `0x${wei.toString(16)}`] };
  await fetch(anvil.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(call),
  });
}

describe('a node that cashes out by itself', () => {
  it('says what it waits for and until when, sends nothing in a dry run, and finalises and withdraws when the time has come', async () => {
    const book = await Book.open();
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
    const book = await Book.open();
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
    const book = await Book.open();
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
    const book = await Book.open(0n);
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
    await setBalance(relayer, GAS);
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

  it('leaves out what the book’s delegate did not sign, and pays the rest', async () => {
    const book = await Book.open();
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
    const book = await Book.open();
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
    const book = await Book.open();
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
