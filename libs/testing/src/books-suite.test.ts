import { ledger, type AccountRef, type LedgerEntry, type Standing } from '@freehold/domain';
import { BooksWorld, booksSuite, type Projection } from './books-suite.ts';
import { PAYERS } from './played-chain.ts';
import { MemoryDatabase } from './sim/memory/database.ts';
import { balanceOf, covered, post } from './sim/memory/ledger.ts';
import { MemoryChainHistory } from './sim/memory/memory-chain-history.ts';
import { MemorySettlementStore } from './sim/memory/memory-settlement-store.ts';

const BOOK = `0x${'b0'.repeat(32)}`;
/** Of a charge of 7; odd, so that rounding shows. */
const [CHARGE, FEE] = [7n, 2n];

/** The simulator's stores: the same chain history as its markets have, and jobs as bare entries. */
class MemoryBooks extends BooksWorld {
  readonly db: MemoryDatabase = new MemoryDatabase({ nowMs: () => 0, uuid: () => 'none' });
  readonly history = new MemoryChainHistory(this.db, { book: BOOK, operatorPayer: PAYERS.operator });
  readonly payees = ['0x01', '0x02'];

  async org(wallet: string): Promise<string> {
    const id = `org_${wallet.slice(-2)}`;
    this.db.orgs.insert(id, { id, trust: 'self-custody', wallet });
    return id;
  }
  async credit(org: string, amount: bigint, ref: string): Promise<boolean> {
    return this.#post(ledger.credit(org, amount, ref));
  }
  async hold(org: string, cap: bigint): Promise<string | null> {
    const job = `job_${this.db.serial()}`;
    try {
      this.#post(ledger.hold(org, job, cap));
      return job;
    } catch {
      // The balance does not reach: what the suite asks about.
      return null;
    }
  }
  async work(job: string, payee: number): Promise<LedgerEntry | null> {
    const held = balanceOf(this.db, ledger.holdOf(job));
    if (held === 0n) return null;
    const charge = held < CHARGE ? held : CHARGE;
    const fee = charge < FEE ? charge : FEE;
    const entry = ledger.charge({
      job,
      task: `task ${this.db.serial()}`,
      payout: this.payees[payee - 1] ?? '',
      charge,
      fee,
    });
    this.#post(entry);
    this.#post(entry);
    return entry;
  }
  async finish(job: string): Promise<bigint> {
    const rest = balanceOf(this.db, ledger.holdOf(job));
    const org = this.db.entries.must(`hold ${job}`).postings.find(({ kind }) => kind === 'balance')?.owner ?? '';
    if (rest > 0n) this.#post(covered(this.db, ledger.release(org, job, rest)));
    return rest;
  }
  async closeEpochs(below: bigint): Promise<void> {
    const settlement = new MemorySettlementStore(this.db);
    for (let open = await settlement.openEpoch(); open !== null && open < below; open += 1n)
      await settlement.closeEpoch(BOOK, open);
  }
  async projection(): Promise<Projection> {
    const orders = this.db.chainOrders.where(({ state }) => state !== 'gone');
    const epochs = this.db.chainEpochs.where(({ state }) => state !== 'open');
    return {
      orders: orders.map(({ order, state, closeEpoch, reserved, free }) => {
        return { order, state, closeEpoch, reserved, free };
      }),
      epochs: new Map(epochs.map(({ epoch, state }) => [epoch, state])),
    };
  }
  async standings(): Promise<readonly (AccountRef & Standing)[]> {
    const standings = new Map<string, AccountRef & Standing>();
    for (const { kind, owner, balance } of this.db.accounts.all())
      standings.set(`${kind} ${owner}`, { kind, owner, balance, short: 0n });
    for (const shortage of this.db.shortages.all()) {
      const { kind, owner, amount: short } = shortage;
      standings.set(`${kind} ${owner}`, { kind, owner, balance: balanceOf(this.db, shortage), short });
    }
    return [...standings.values()];
  }
  /** Whether it was new. */
  #post(entry: LedgerEntry): boolean {
    const before = this.db.entries.size;
    this.db.transaction(() => post(this.db, [entry]));
    return this.db.entries.size > before;
  }
}

booksSuite('the memory of the simulator', { runs: 150, moves: 80, seed: 5 }, async () => ({
  world: new MemoryBooks(),
}));
