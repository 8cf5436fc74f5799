import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  createSigner,
  deployDevnet,
  EscrowClient,
  ExitClient,
  ExitWallet,
  openDevnetOrder,
  tokenBalance,
  type Devnet,
} from '@freehold/chain';
import { receiptHash, type KeptVoucher } from '@freehold/protocol';
import { cashout } from './cashout.ts';
import { refundOrder } from './order.ts';

export type Key = `0x${string}`;
export const newKey = (): Key => `0x${randomBytes(32).toString('hex')}`;
export const EPOCH = 60;
export const WINDOW = 30;
export const GRACE = 120;
export const GAS = 10n ** 18n;

export interface Place {
  readonly rpcUrl: string;
  /** Nodes' folders are made in it. */
  readonly folder: string;
}

export interface Result {
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

/** A book whose coordinator does only what a test makes it do, a node with a folder, and a requester's order. */
export class Book {
  readonly payerKey = newKey();
  readonly nodeKey = newKey();
  readonly data: string;
  readonly rpcUrl: string;
  readonly devnet: Devnet;
  readonly delegateKey: Key;
  readonly deposit = 10_000n;
  order = 0;
  params = '0x';
  #cumulative = 0n;
  #count = 0;

  private constructor({ rpcUrl, folder }: Place, devnet: Devnet, delegateKey: Key) {
    this.rpcUrl = rpcUrl;
    this.devnet = devnet;
    this.delegateKey = delegateKey;
    this.data = mkdtempSync(join(folder, 'node-'));
    mkdirSync(join(this.data, 'receipts'));
    writeFileSync(join(this.data, 'node.key'), `${this.nodeKey.slice(2)}\n`, { mode: 0o600 });
    writeFileSync(this.payerFile, JSON.stringify({ walletKey: this.payerKey }));
  }

  static async open(place: Place, gas = GAS): Promise<Book> {
    const { rpcUrl } = place;
    const delegateKey = newKey();
    const devnet = await deployDevnet({
      rpcUrl,
      deployerKey: newKey(),
      delegateKey,
      feeBps: 500,
      epochSeconds: EPOCH,
      windowSeconds: WINDOW,
      graceSeconds: GRACE,
      bond: 1_000n,
    });
    const book = new Book(place, devnet, delegateKey);
    const lanes = { reserved: book.deposit, free: 0n, salt: `0x${'07'.repeat(32)}` as Key };
    book.order = await openDevnetOrder(rpcUrl, book.payerKey, devnet, lanes);
    book.params = (await book.client.order(book.order))?.params ?? '0x';
    await setBalance(rpcUrl, book.node, gas);
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
    return new ExitClient({ rpcUrl: this.rpcUrl, escrow: this.devnet.escrow, book: this.devnet.book });
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
    const head = { coordinator, bookEpoch: String(epoch), total: amount, orders: { [this.order]: amount } };
    writeFileSync(join(this.data, 'vouchers.json'), JSON.stringify({ [`${claim.book}/${epoch}`]: head }));
    return voucher;
  }

  /** What a coordinator would do: registers the node and posts so much for it. */
  async post(gross: bigint, credit: bigint, register = true): Promise<void> {
    const escrow = new EscrowClient({ rpcUrl: this.rpcUrl, escrow: this.devnet.escrow, book: this.devnet.book });
    const wallet = new ExitWallet({ rpcUrl: this.rpcUrl, privateKey: this.delegateKey });
    const send = async (what: string, call: { to: string; data: string }) =>
      await wallet.send({ what, to: call.to as Key, data: call.data as Key });
    if (register && (await this.client.payee(this.node)) === null) await send('register', escrow.addPayee(this.node));
    const index = (await this.client.payee(this.node))?.index;
    const { next } = await this.client.bookFacts();
    const credits = new Map(index === undefined ? [] : [[index, credit]]);
    await send('post', escrow.post(next, new Map([[this.order, gross]]), credits));
  }

  async paid(of = this.node): Promise<bigint> {
    return await tokenBalance(this.rpcUrl, this.devnet.token, of as Key);
  }

  /** `freehold node cashout`, as JSON. */
  async cashout(options: Partial<Parameters<typeof cashout>[0]> = {}): Promise<Result> {
    const out: string[] = [];
    const all = { data: this.data, rpc: this.rpcUrl, dryRun: false, json: true, ...options };
    const code = await cashout(all, (line) => out.push(line));
    return { code, ...(JSON.parse(out.at(-1) ?? '{}') as { books: Result['books'] }) };
  }

  /** `freehold order refund`, as JSON. */
  async refund(): Promise<{ code: number; did: { do: string }[]; waits: { until: string }[] }> {
    const out: string[] = [];
    const { escrow, book, chainId } = this.devnet;
    const words = {
      rpc: this.rpcUrl,
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

export async function setBalance(rpcUrl: string, address: string, wei: bigint): Promise<void> {
  const call = { jsonrpc: '2.0', id: 1, method: 'anvil_setBalance', params: [address, `0x${wei.toString(16)}`] };
  await fetch(rpcUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(call),
  });
}
