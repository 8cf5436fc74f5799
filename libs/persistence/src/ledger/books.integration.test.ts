import { afterAll, beforeAll, expect } from '@jest/globals';
import { ledger, type AccountRef, type Amount, type LedgerEntry, type Standing } from '@freehold/domain';
import { BooksWorld, booksSuite, PAYERS, type Projection } from '@freehold/testing';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { BOOK, LEASE_MS, MarketWorld, ROW_PRICE } from '../../test/market-world.ts';
import { PgChainHistory } from '../chain/pg-chain-history.ts';
import { PgSettlementStore } from '../chain/pg-settlement-store.ts';
import { isCheckViolation } from '../database-errors.ts';
import { runDoctor } from '../doctor/index.ts';
import { grantCredits, releaseHolds } from './ledger.ts';

let market: MarketDatabase;
let world: MarketWorld;
let nodes: string[];
beforeAll(async () => {
  market = await marketDatabase();
  world = new MarketWorld(market.database);
  nodes = [await world.node(), await world.node()];
}, 30_000);
afterAll(() => market.close());

/** The real stores: holds, leases, acceptances and releases as the market makes them. */
class PgBooks extends BooksWorld {
  readonly history = new PgChainHistory(market.database, {
    book: BOOK,
    escrow: `0x${'e5'.repeat(20)}`,
    operatorPayer: PAYERS.operator,
  });
  readonly payees = nodes.map((node) => world.offer(node, 1).offer.payout);

  async org(wallet: string): Promise<string> {
    const org = await world.org(0n);
    await market.database.query('UPDATE org SET wallet = $2 WHERE id = $1', [org, wallet]);
    return org;
  }
  async credit(org: string, amount: Amount, ref: string): Promise<boolean> {
    return grantCredits(market.database, org, amount, ref);
  }
  async hold(org: string, cap: Amount): Promise<string | null> {
    const rows = Number((cap + ROW_PRICE - 1n) / ROW_PRICE);
    return world.batch(rows, { org, cap }).catch((error: unknown) => {
      if (isCheckViolation(error)) return null;
      throw error;
    });
  }
  async work(job: string, payee: number): Promise<LedgerEntry | null> {
    const { next_row, row_count, state } = (await world.job(job)) as {
      next_row: number;
      row_count: number;
      state: string;
    };
    if (next_row >= row_count || state !== 'in_progress') return null;
    const to = Math.min(row_count, next_row + 3);
    const [lease] = await world.store.grant([world.wish(job, nodes[payee - 1] ?? '', next_row, to)], LEASE_MS);
    if (lease === undefined) throw new Error(`rows from ${next_row} of ${job} were not granted`);
    await world.store.start(lease);
    await world.deliver(lease);
    const accepted = await world.accept(lease);
    expect(accepted.moved && !(await world.accept(lease)).moved).toBe(true);
    const [receipt] = await market.database.query<{ payout: string; charge: string; fee: string }>(
      'SELECT payout, charge, fee FROM receipt WHERE task_id = $1',
      [lease.task],
    );
    if (receipt === undefined) throw new Error(`task ${lease.task} was accepted without a receipt`);
    const [charge, fee] = [BigInt(receipt.charge), BigInt(receipt.fee)];
    return ledger.charge({ job, task: lease.task, payout: receipt.payout, charge, fee });
  }
  async finish(job: string): Promise<bigint> {
    const [before] = await market.database.query<{ held: string }>(
      `SELECT cap - charged AS held FROM job WHERE id = $1`,
      [job],
    );
    await market.database.transaction(async (tx) => {
      await tx.query(
        `INSERT INTO row_end (job_id, row_no, state) SELECT job_id, row_no, 'cancelled' FROM job_row WHERE job_id = $1 AND state = 'pending'`,
        [job],
      );
      await tx.query(
        `UPDATE job SET state = 'cancelled', cancelled_at = clock_timestamp(), rows_ended = row_count - rows_succeeded - rows_failed WHERE id = $1`,
        [job],
      );
      await releaseHolds(tx, [job]);
      await releaseHolds(tx, [job]);
    });
    return BigInt(before?.held ?? 0);
  }
  async closeEpochs(below: bigint): Promise<void> {
    const settlement = new PgSettlementStore(market.database);
    for (let open = await settlement.openEpoch(BOOK); open !== null && open < below; open += 1n)
      await settlement.closeEpoch(BOOK, open);
  }
  async projection(): Promise<Projection> {
    const orders = await market.database.query<{
      order: number;
      state: string;
      close: string | null;
      reserved: string;
      free: string;
    }>(
      `SELECT order_index AS order, state, close_epoch AS close, reserved, free FROM chain_order WHERE book = $1 AND state <> 'gone'`,
      [BOOK],
    );
    const epochs = await market.database.query<{ epoch: string; state: string }>(
      `SELECT epoch, state FROM chain_epoch WHERE book = $1 AND state <> 'open'`,
      [BOOK],
    );
    return {
      orders: orders.map(({ order, state, close, reserved, free }) => ({
        ...{ order, state, closeEpoch: close === null ? null : BigInt(close) },
        ...{ reserved: BigInt(reserved), free: BigInt(free) },
      })),
      epochs: new Map(epochs.map(({ epoch, state }) => [BigInt(epoch), state])),
    };
  }
  async standings(): Promise<readonly (AccountRef & Standing)[]> {
    const rows = await market.database.query<AccountRef & { balance: string; short: string }>(
      `SELECT kind, owner, coalesce(a.balance, 0) AS balance, coalesce(s.amount, 0) AS short
       FROM account a FULL JOIN chain_shortage s USING (kind, owner)`,
    );
    return rows.map((row) => ({ ...row, balance: BigInt(row.balance), short: BigInt(row.short) }));
  }
}

booksSuite('PostgreSQL', { runs: 1, moves: 120, seed: 5 }, async () => ({
  world: new PgBooks(),
  atEnd: async (holds) => {
    expect(await runDoctor(market.database, { chain: { escrowBalance: holds } })).toMatchObject({ violations: [] });
  },
}));
