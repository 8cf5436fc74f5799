import {
  Blocks,
  ChainSender,
  Escrow,
  type BookHoldings,
  type BookNow,
  type ChainEvent,
  type ChainHead,
  type EscrowCall,
  type SendState,
  type SendWish,
} from '@freehold/market';
import type { MemoryDatabase } from '../memory/database.ts';
import { textLanes, type BookCall } from './book-rules.ts';
import type { SimChain } from './sim-chain.ts';

/** The book on the simulated chain, as an endpoint shows it. */
export class SimEscrow extends Escrow {
  readonly book: string;
  readonly #chain: SimChain;

  constructor(book: string, chain: SimChain) {
    super();
    this.book = book;
    this.#chain = chain;
  }

  async head(): Promise<ChainHead> {
    const { number, hash } = this.#chain.head;
    return { number, hash, timestamp: this.#chain.now };
  }
  async hashOf(block: bigint): Promise<string | null> {
    return this.#chain.block(block)?.hash ?? null;
  }
  async events(from: bigint, to: bigint): Promise<readonly ChainEvent[]> {
    const found: ChainEvent[] = [];
    for (let number = from; number <= to; number += 1n) found.push(...(this.#chain.block(number)?.events ?? []));
    return found;
  }
  async bookNow(): Promise<BookNow> {
    const { stage, next, postedAt } = this.#chain.head.state;
    const { startsAt, epochSeconds, windowSeconds, feeBps } = this.#chain.terms;
    return { stage, next, postedAt, startsAt, epochSeconds, windowSeconds, feeBps };
  }
  async payeeBalance(index: number): Promise<bigint> {
    return this.#chain.head.state.balances.get(index) ?? 0n;
  }
  async holdings(block: bigint): Promise<BookHoldings> {
    const state = this.#chain.block(block)?.state;
    if (state === undefined) throw new Error(`block ${block} is not there`);
    const lanes = [...state.orders.values()].reduce((sum, { reserved, free }) => sum + reserved + free, 0n);
    const balances = [...state.balances.values()].reduce((sum, balance) => sum + balance, 0n);
    return { block, lanes, balances, bond: state.bond, tokens: lanes + balances + state.bond };
  }

  addPayee(payee: string): EscrowCall {
    return this.#call({ do: 'add-payee', payee });
  }
  post(epoch: bigint, debits: ReadonlyMap<number, bigint>, credits: ReadonlyMap<number, bigint>): EscrowCall {
    return this.#call({ do: 'post', epoch: String(epoch), debits: textLanes(debits), credits: textLanes(credits) });
  }
  finalise(debits: ReadonlyMap<number, bigint>, credits: ReadonlyMap<number, bigint>): EscrowCall {
    return this.#call({ do: 'finalise', debits: textLanes(debits), credits: textLanes(credits) });
  }
  withdraw(payees: readonly number[]): EscrowCall {
    return this.#call({ do: 'withdraw', payees });
  }
  refund(order: number): EscrowCall {
    return this.#call({ do: 'refund', order });
  }

  #call(call: BookCall): EscrowCall {
    return { to: this.book, data: JSON.stringify(call) };
  }
}

export class SimBlocks extends Blocks {
  readonly #chain: SimChain;

  constructor(chain: SimChain) {
    super();
    this.#chain = chain;
  }

  async height(): Promise<bigint> {
    return this.#chain.head.number;
  }
  async hash(height: bigint): Promise<string | null> {
    return this.#chain.block(height)?.hash ?? null;
  }
}

/** The delegate's transactions in the market's database: a nonce and a (purpose, ref) are each taken once. */
export class SentTransactions {
  readonly #db: MemoryDatabase;

  constructor(db: MemoryDatabase) {
    this.#db = db;
  }

  async find(purpose: string, ref: string) {
    const same = this.#db.chainTransactions.where((sent) => sent.purpose === purpose && sent.ref === ref);
    return same.find(({ state }) => state !== 'failed') ?? same.at(-1) ?? null;
  }
  async save(wish: { readonly nonce: number; readonly purpose: string; readonly ref: string; readonly raw: string }) {
    return this.#db.transaction(() => {
      const isTaken = this.#db.chainTransactions.where(
        (sent) =>
          sent.nonce === wish.nonce ||
          (sent.purpose === wish.purpose && sent.ref === wish.ref && sent.state !== 'failed'),
      );
      if (isTaken.length > 0) return null;
      const id = `tx-${wish.nonce}`;
      const row = { ...wish, id, state: 'saved', block: null } as const;
      this.#db.chainTransactions.insert(id, row);
      return row;
    });
  }
  async nextNonce(): Promise<number> {
    return this.#db.chainTransactions.size;
  }
  async all() {
    return this.#db.chainTransactions.all();
  }
  async mark(
    id: string,
    state: 'sent' | 'confirmed' | 'failed',
    block: { readonly number: bigint; readonly hash: string } | null,
  ): Promise<void> {
    this.#db.chainTransactions.update(id, { state, block });
  }
}

/** Reads and sends: what of the chain is a request away. */
export class ChainEndpoint {
  readonly #chain: SimChain;

  constructor(chain: SimChain) {
    this.#chain = chain;
  }

  async refusal(call: EscrowCall, from: string): Promise<string | null> {
    return this.#chain.refusal(JSON.parse(call.data) as BookCall, from);
  }
  async sendRaw(hash: string, nonce: number, from: string, raw: string): Promise<void> {
    this.#chain.send({ hash, nonce, from, call: JSON.parse(raw) as BookCall });
  }
  async receipt(
    hash: string,
  ): Promise<{ readonly succeeded: boolean; readonly number: bigint; readonly hash: string } | null> {
    const block = this.#chain.minedIn(hash);
    const receipt = block?.receipts.get(hash);
    return block === undefined || receipt === undefined
      ? null
      : { succeeded: receipt.succeeded, number: block.number, hash: block.hash };
  }
  async isKnown(hash: string): Promise<boolean> {
    return this.#chain.isInPool(hash);
  }
}

/** Sign → save → send, confirm, send again: the discipline of the real sender, over an endpoint and a table that may be cut off. */
export class SimSender extends ChainSender {
  readonly address: string;
  readonly #saved: SentTransactions;
  readonly #endpoint: ChainEndpoint;

  constructor(address: string, saved: SentTransactions, endpoint: ChainEndpoint) {
    super();
    this.address = address;
    this.#saved = saved;
    this.#endpoint = endpoint;
  }

  async submit({ purpose, ref, call }: SendWish): Promise<SendState> {
    const known = await this.#saved.find(purpose, ref);
    if (known !== null && known.state !== 'failed')
      return known.state === 'confirmed'
        ? { state: 'confirmed', hash: known.id, gasUsed: 0n }
        : { state: 'pending', hash: known.id };
    const why = await this.#endpoint.refusal(call, this.address);
    if (why !== null) return { state: 'refused', why };
    const nonce = await this.#saved.nextNonce();
    const saved = await this.#saved.save({ nonce, purpose, ref, raw: call.data });
    if (saved === null) return { state: 'refused', why: 'another sender was faster; ask again' };
    await this.#endpoint.sendRaw(saved.id, nonce, this.address, call.data);
    await this.#saved.mark(saved.id, 'sent', null);
    return { state: 'pending', hash: saved.id };
  }

  async tick(): Promise<{
    readonly confirmed: number;
    readonly failed: number;
    readonly resent: number;
    readonly replaced: number;
    readonly waits: null;
  }> {
    const counts = { confirmed: 0, failed: 0, resent: 0, replaced: 0, waits: null };
    for (const saved of await this.#saved.all()) {
      const mined = await this.#endpoint.receipt(saved.id);
      if (mined !== null) {
        if (saved.block?.hash === mined.hash) continue;
        counts[mined.succeeded ? 'confirmed' : 'failed'] += 1;
        await this.#saved.mark(saved.id, mined.succeeded ? 'confirmed' : 'failed', {
          number: mined.number,
          hash: mined.hash,
        });
        continue;
      }
      if (saved.state === 'sent' && (await this.#endpoint.isKnown(saved.id))) continue;
      await this.#endpoint.sendRaw(saved.id, saved.nonce, this.address, saved.raw);
      await this.#saved.mark(saved.id, 'sent', null);
      counts.resent += 1;
    }
    return counts;
  }
}
