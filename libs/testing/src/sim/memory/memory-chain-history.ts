import { ledger, type LedgerEntry } from '@freehold/domain';
import {
  ChainHistory,
  changeOfEvent,
  ledgerOfChain,
  unclaimedLaneOf,
  type ChainBlock,
  type ChainChange,
  type ChainEvent,
  type ChainNames,
  type ChainStep,
} from '@freehold/market';
import type { ChainOrderRow, MemoryDatabase } from './database.ts';
import { covered, post } from './ledger.ts';

/** What was read of the chain; events, their projection and their ledger entries are one transaction. */
export class MemoryChainHistory extends ChainHistory {
  readonly #db: MemoryDatabase;
  readonly #of: { readonly book: string; readonly operatorPayer: string };

  constructor(db: MemoryDatabase, of: { readonly book: string; readonly operatorPayer: string }) {
    super();
    this.#db = db;
    this.#of = of;
  }

  async rememberChain(): Promise<void> {
    await Promise.resolve();
  }

  async blocks(limit: number): Promise<readonly ChainBlock[]> {
    const known = this.#db.chainBlocks.all().sort((a, b) => (a.number > b.number ? -1 : 1));
    return known.slice(0, limit);
  }

  async absorb(
    step: ChainStep,
  ): Promise<{ readonly absorbed: boolean; readonly applied: number; readonly undone: number }> {
    const [last] = await this.blocks(1);
    return this.#db.transaction(() => {
      const stands =
        last === undefined ? step.from === null : last.number === step.from?.number && last.hash === step.from.hash;
      if (!stands) return { absorbed: false, applied: 0, undone: 0 };
      const undone = step.forkedAt === null ? 0 : this.#undoAbove(step.forkedAt);
      let applied = 0;
      for (const event of step.events) if (this.#apply(event)) applied += 1;
      for (const { blockNumber: number, blockHash: hash } of step.events) this.#remember({ number, hash });
      this.#remember(step.to);
      return { absorbed: true, applied, undone };
    });
  }

  #remember(block: ChainBlock): void {
    this.#db.chainBlocks.put(String(block.number), block);
  }

  #apply(event: ChainEvent): boolean {
    const key = `${event.blockHash}:${event.logIndex}`;
    const known = this.#db.chainEvents.get(key);
    if (known !== undefined && !known.removed) return false;
    const applied = (known?.applied ?? 0) + 1;
    this.#project(event);
    const entries: LedgerEntry[] = [];
    for (const entry of ledgerOfChain(event, this.#names(event), `${key}:${applied}`)) {
      post(this.#db, [covered(this.#db, entry)]);
      entries.push(entry);
    }
    this.#db.chainEvents.put(key, { event, applied, removed: false, entries });
    return true;
  }

  #undoAbove(block: bigint): number {
    const gone = this.#db.chainEvents.where(({ event, removed }) => event.blockNumber > block && !removed);
    gone.sort((a, b) => Number(b.event.blockNumber - a.event.blockNumber) || b.event.logIndex - a.event.logIndex);
    for (const { event, entries } of gone) {
      for (const entry of [...entries].reverse())
        post(this.#db, [covered(this.#db, ledger.reversal(entry, `${entry.kind}:${entry.ref}`))]);
      this.#unproject(event);
      this.#db.chainEvents.update(`${event.blockHash}:${event.logIndex}`, { removed: true });
    }
    for (const { number } of this.#db.chainBlocks.where((known) => known.number > block))
      this.#db.chainBlocks.delete(String(number));
    return gone.length;
  }

  #names(event: ChainEvent): ChainNames {
    const byIndex = new Map(this.#db.chainPayees.all().map(({ payee, index }) => [index, payee]));
    return {
      lane: (order) => {
        const row = this.#db.chainOrders.must(String(order));
        if (row.isOperator) return ledger.OPERATOR;
        return row.orgId === null ? unclaimedLaneOf(row.payer) : ledger.balanceOf(row.orgId);
      },
      payee: (index) => {
        const payee = byIndex.get(index);
        if (payee === undefined) throw new Error(`the chain names payee ${index}, which it never announced`);
        return payee;
      },
      posted: () => (event.name === 'EpochFinal' ? this.#postedCredits(event.epoch) : new Map()),
      delegate: this.#db.chainBooks.get(this.#of.book)?.delegate ?? '',
    };
  }

  #postedCredits(epoch: bigint): ReadonlyMap<number, bigint> {
    const postings = this.#db.chainEvents
      .all()
      .flatMap(({ event, removed }) =>
        event.name === 'EpochPosted' && event.epoch === epoch && !removed ? [event] : [],
      );
    const last = postings.sort((a, b) => Number(a.blockNumber - b.blockNumber) || a.logIndex - b.logIndex).at(-1);
    if (last === undefined) throw new Error(`epoch ${epoch} became final, but its posting was never read`);
    return new Map(last.credits);
  }

  #project(event: ChainEvent): void {
    const db = this.#db;
    switch (event.name) {
      case 'BookOpened':
        db.chainBooks.put(this.#of.book, { book: this.#of.book, delegate: event.delegate, isAlive: true });
        if (db.chainEpochs.get('0') === undefined)
          db.chainEpochs.insert('0', { epoch: 0n, state: 'open', debits: new Map(), credits: new Map() });
        return;
      case 'PayeeAdded': {
        const known = db.chainPayees.get(event.payee) ?? { payee: event.payee, epoch: null, total: 0n };
        db.chainPayees.put(event.payee, { ...known, index: event.index });
        return;
      }
      case 'OrderOpened': {
        const isOperator = event.payer === this.#of.operatorPayer;
        const [org] = db.orgs.where(({ wallet }) => wallet === event.payer && !isOperator);
        const { order, params, payer, reserved, free } = event;
        const spent = db.chainOrders.get(String(order))?.spent ?? 0n;
        const row: ChainOrderRow = {
          order,
          params,
          payer,
          reserved,
          free,
          spent,
          isOperator,
          orgId: org?.id ?? null,
          state: 'open',
          closeEpoch: null,
        };
        db.chainOrders.put(String(order), row);
        return;
      }
      default: {
        const made = changeOfEvent(event)?.made ?? null;
        if (made !== null) this.#change(made);
      }
    }
  }

  #unproject(event: ChainEvent): void {
    if (event.name === 'PayeeAdded') this.#db.chainPayees.update(event.payee, { index: null });
    const undone = changeOfEvent(event)?.undone ?? null;
    if (undone !== null) this.#change(undone);
  }

  #change(to: ChainChange): void {
    const db = this.#db;
    switch (to.of) {
      case 'book':
        db.chainBooks.update(this.#of.book, { isAlive: to.state === 'alive' });
        return;
      case 'order': {
        const { closeEpoch } = to.state === 'open' ? { closeEpoch: null } : to;
        db.chainOrders.update(String(to.order), {
          state: to.state,
          ...(closeEpoch === undefined ? {} : { closeEpoch }),
        });
        return;
      }
      case 'lanes':
        return this.#addToLanes(to.order, to.reserved, to.free);
      case 'epoch':
        return this.#moveEpoch(to.epoch, to.state);
    }
  }

  #addToLanes(order: number, reserved: bigint, free: bigint): void {
    const row = this.#db.chainOrders.must(String(order));
    this.#db.chainOrders.update(String(order), { reserved: row.reserved + reserved, free: row.free + free });
  }

  /** An epoch that is open here stays open for the vouchers that go into it. */
  #moveEpoch(epoch: bigint, state: 'closed' | 'posted' | 'final'): void {
    const known = this.#db.chainEpochs.get(String(epoch));
    if (known !== undefined && known.state !== 'open') this.#db.chainEpochs.update(String(epoch), { state });
  }
}
