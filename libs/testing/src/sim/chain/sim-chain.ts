import { createHash } from 'node:crypto';
import type { ChainEvent, ChainFact } from '@freehold/market';
import type { Dice } from '../dice.ts';
import type { VirtualTime } from '../virtual-time.ts';
import { applyCall, Revert, type BookCall, type BookState, type BookTerms } from './book-rules.ts';

export interface SimTransaction {
  readonly hash: string;
  readonly from: string;
  /** Taken in this order; null for wallets that send one at a time. */
  readonly nonce: number | null;
  readonly call: BookCall;
}

export interface SimBlock {
  readonly number: bigint;
  readonly hash: string;
  readonly timestamp: bigint;
  readonly state: BookState;
  readonly events: readonly ChainEvent[];
  readonly receipts: ReadonlyMap<string, { readonly succeeded: boolean; readonly why: string | null }>;
  readonly transactions: readonly SimTransaction[];
}

export interface ChainManners {
  readonly blockMs: number;
  /** Of all blocks, how many make the chain take some back. */
  readonly reorgs: number;
  readonly reorgDepthMax: number;
  /** Of the transactions in blocks that were taken back, how many the pool forgets. */
  readonly forgotten: number;
}

export const STEADY: ChainManners = { blockMs: 2_000, reorgs: 0, reorgDepthMax: 0, forgotten: 0 };

/** A chain with one book: blocks at their time, a pool, and now and then a reorganisation. */
export class SimChain {
  readonly terms: BookTerms;
  readonly #time: VirtualTime;
  readonly #dice: Dice;
  readonly #manners: () => ChainManners;
  readonly #blocks: SimBlock[] = [];
  readonly #pool: SimTransaction[] = [];
  #salt = 0;
  reorgs = 0;

  constructor(parts: { time: VirtualTime; dice: Dice; manners: () => ChainManners; terms: BookTerms; bond: bigint }) {
    this.#time = parts.time;
    this.#dice = parts.dice;
    this.#manners = parts.manners;
    this.terms = parts.terms;
    this.#blocks.push(this.#genesis(parts.bond));
  }

  #genesis(bond: bigint): SimBlock {
    const { delegate, feeBps, startsAt, epochSeconds, windowSeconds, graceSeconds } = this.terms;
    const seconds = {
      epochSeconds: Number(epochSeconds),
      windowSeconds: Number(windowSeconds),
      graceSeconds: Number(graceSeconds),
    };
    const facts: ChainFact[] = [
      { name: 'BookOpened', delegate, feeBps, startsAt, ...seconds },
      { name: 'PayeeAdded', index: 0, payee: delegate },
      { name: 'BondAdded', amount: bond },
    ];
    const state: BookState = {
      stage: 'waiting',
      next: 0n,
      since: startsAt,
      postedAt: 0n,
      bond,
      posting: null,
      orders: new Map(),
      payees: [delegate],
      balances: new Map(),
      cashed: new Set(),
      paidOut: new Map(),
    };
    return this.#block(0n, state, { facts, transactions: [], receipts: new Map() });
  }

  start(): void {
    const turn = (): void => {
      this.mine();
      this.#time.after(this.#manners().blockMs, turn);
    };
    this.#time.after(this.#manners().blockMs, turn);
  }

  get head(): SimBlock {
    const head = this.#blocks.at(-1);
    if (head === undefined) throw new Error('a chain has its genesis');
    return head;
  }

  block(number: bigint): SimBlock | undefined {
    return this.#blocks[Number(number)];
  }

  /** The block a transaction stands in, on the chain as it is now. */
  minedIn(hash: string): SimBlock | undefined {
    return this.#blocks.findLast((block) => block.receipts.has(hash));
  }

  isInPool(hash: string): boolean {
    return this.#pool.some((known) => known.hash === hash);
  }

  /** Why the call would revert now, or null. */
  refusal(call: BookCall, from: string): string | null {
    try {
      applyCall(this.terms, this.head.state, call, from, this.now);
      return null;
    } catch (error) {
      if (error instanceof Revert) return error.message;
      throw error;
    }
  }

  send(transaction: SimTransaction): void {
    if (!this.isInPool(transaction.hash) && this.minedIn(transaction.hash) === undefined) this.#pool.push(transaction);
  }

  get now(): bigint {
    return BigInt(Math.floor(this.#time.nowMs / 1_000));
  }

  nonceOf(sender: string): number {
    return this.#blocks
      .flatMap(({ transactions }) => transactions)
      .filter(({ from, nonce }) => from === sender && nonce !== null).length;
  }

  mine(): void {
    const { reorgs, reorgDepthMax } = this.#manners();
    if (this.#dice.isHit(reorgs)) this.reorg(this.#dice.between(1, reorgDepthMax));
    let { state } = this.head;
    const facts: ChainFact[] = [];
    const receipts = new Map<string, { succeeded: boolean; why: string | null }>();
    const transactions = this.#ready();
    for (const transaction of transactions) {
      try {
        const outcome = applyCall(this.terms, state, transaction.call, transaction.from, this.now);
        state = outcome.state;
        facts.push(...outcome.facts);
        receipts.set(transaction.hash, { succeeded: true, why: null });
      } catch (error) {
        if (!(error instanceof Revert)) throw error;
        receipts.set(transaction.hash, { succeeded: false, why: error.message });
      }
    }
    this.#blocks.push(this.#block(this.head.number + 1n, state, { facts, transactions, receipts }));
  }

  /** What the pool holds and the sender's nonce allows, in order. */
  #ready(): SimTransaction[] {
    const nonces = new Map<string, number>();
    const ready: SimTransaction[] = [];
    const waiting = [...this.#pool].sort((a, b) => (a.nonce ?? 0) - (b.nonce ?? 0));
    for (const transaction of waiting) {
      const expected = nonces.get(transaction.from) ?? this.nonceOf(transaction.from);
      if (transaction.nonce !== null && transaction.nonce !== expected) continue;
      if (transaction.nonce !== null) nonces.set(transaction.from, expected + 1);
      ready.push(transaction);
      this.#pool.splice(this.#pool.indexOf(transaction), 1);
    }
    return ready;
  }

  /** Takes blocks back. Wallets send again what is forgotten; the coordinator's sender has to notice by itself. */
  reorg(depth: number): void {
    const gone = Math.min(depth, this.#blocks.length - 1);
    if (gone === 0) return;
    this.reorgs += 1;
    this.#salt += 1;
    for (const { transactions } of this.#blocks.splice(-gone)) {
      for (const transaction of transactions) {
        if (transaction.nonce === null || !this.#dice.isHit(this.#manners().forgotten)) this.#pool.push(transaction);
      }
    }
    for (let i = 0; i < gone - 1; i += 1) {
      const { number, state } = this.head;
      this.#blocks.push(this.#block(number + 1n, state, { facts: [], transactions: [], receipts: new Map() }));
    }
  }

  #block(
    number: bigint,
    state: BookState,
    of: { readonly facts: readonly ChainFact[] } & Pick<SimBlock, 'transactions' | 'receipts'>,
  ): SimBlock {
    const hash = `0x${createHash('sha256')
      .update(`${number} ${this.#salt} ${this.#blocks.at(-1)?.hash ?? ''}`)
      .digest('hex')}`;
    const events = of.facts.map((fact, logIndex): ChainEvent => ({
      ...fact,
      blockNumber: number,
      blockHash: hash,
      logIndex,
    }));
    const { transactions, receipts } = of;
    return { number, hash, timestamp: this.now, state, events, transactions, receipts };
  }
}
