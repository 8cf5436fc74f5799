import {
  ANCHOR_PURPOSE,
  SettlementStore,
  type AcceptanceForNode,
  type Commit,
  type EpochAmounts,
  type KeptTotal,
  type UnkeptAfter,
  type VouchersOf,
} from '@freehold/market';
import type { Database } from '../database.ts';
import { Window } from '../window.ts';
import {
  ACCEPTANCE,
  acceptanceOf,
  acceptances,
  markKept,
  saveSignatures,
  unkeep,
  type AcceptanceRow,
  type KeptVoucher,
  type SignedVoucher,
} from './acceptances.ts';

/** The leases that vouchers pay, by what their nodes committed to. */
const COMMITS = `FROM voucher v JOIN receipt r USING (task_id) JOIN lease l ON l.task_id = r.task_id AND l.epoch = r.epoch AND l.checkpoint_root IS NOT NULL`;

/** Vouchers that share a statement. */
const VOUCHERS_MAX = 64;

/** Vouchers and epochs in Postgres. The vouchers themselves are written by acceptance, with the charge. */
export class PgSettlementStore extends SettlementStore {
  readonly #database: Database;
  readonly #asked: Window<string, AcceptanceForNode | null>;
  readonly #signed: Window<SignedVoucher, Omit<SignedVoucher, 'task'>>;
  readonly #kept: Window<KeptVoucher, undefined>;

  /** @param windowMs How long a voucher waits for others to share its statements and commits; 0: not at all. */
  constructor(database: Database, windowMs = 0) {
    super();
    this.#database = database;
    const options = { windowMs, weightMax: VOUCHERS_MAX, weightOf: (): number => 1 };
    this.#asked = new Window((tasks) => acceptances(database, tasks), options);
    this.#signed = new Window((vouchers) => saveSignatures(database, vouchers), options);
    this.#kept = new Window((vouchers) => markKept(database, vouchers), options);
  }

  override acceptance(task: string): Promise<AcceptanceForNode | null> {
    return this.#asked.add(task);
  }

  override saveSignature(
    task: string,
    receipt: string,
    signature: string,
  ): Promise<{ readonly receipt: string; readonly signature: string }> {
    return this.#signed.add({ task, receipt, signature });
  }

  override async unkept(of: VouchersOf, limit: number, after?: UnkeptAfter): Promise<readonly AcceptanceForNode[]> {
    const rows = await this.#database.query<AcceptanceRow>(
      `${ACCEPTANCE} WHERE v.node_id = $1 AND v.delivered_at IS NULL AND v.signature IS NOT NULL
         AND v.book IN (SELECT book FROM chain_book WHERE delegate = $6)
         AND ($3::bigint IS NULL OR (v.book_epoch, v.total, v.task_id) > ($3::bigint, $4::numeric, $5::uuid))
       ORDER BY v.book_epoch, v.total, v.task_id LIMIT $2`,
      [
        of.nodeId,
        limit,
        after === undefined ? null : String(after.epoch),
        String(after?.total ?? 0n),
        after?.task ?? null,
        of.delegate,
      ],
    );
    return rows.map(acceptanceOf);
  }

  override markKept(nodeId: string, task: string): Promise<void> {
    return this.#kept.add({ nodeId, task });
  }

  override unkeep(
    of: VouchersOf,
    totals: readonly KeptTotal[],
    limit: number,
    after?: UnkeptAfter,
  ): Promise<UnkeptAfter | null> {
    return unkeep(this.#database, of, totals, limit, after);
  }

  override async openEpoch(book: string): Promise<bigint | null> {
    const [row] = await this.#database.query<{ epoch: string }>(
      `SELECT epoch FROM chain_epoch WHERE book = $1 AND state = 'open'`,
      [book],
    );
    return row === undefined ? null : BigInt(row.epoch);
  }

  override async closeEpoch(book: string, epoch: bigint): Promise<boolean> {
    return this.#database.transaction(
      async (tx) => {
        // Waits for acceptances that are writing vouchers into it; whoever comes later finds the next epoch.
        const [open] = await tx.query(
          `SELECT 1 FROM chain_epoch WHERE book = $1 AND epoch = $2 AND state = 'open' FOR UPDATE`,
          [book, String(epoch)],
        );
        if (open === undefined) return false;
        await tx.query(
          `UPDATE chain_epoch SET state = 'closed', closed_at = clock_timestamp(),
             debits = (SELECT coalesce(jsonb_object_agg(order_index, gross), '{}') FROM (
               SELECT order_index, sum(gross)::text AS gross FROM voucher WHERE book = $1 AND book_epoch = $2 GROUP BY order_index) d),
             credits = (SELECT coalesce(jsonb_object_agg(payee, net), '{}') FROM (
               SELECT payee, sum(net)::text AS net FROM voucher WHERE book = $1 AND book_epoch = $2 GROUP BY payee) c),
             fee = (SELECT coalesce(sum(gross - net), 0) FROM voucher WHERE book = $1 AND book_epoch = $2)
           WHERE book = $1 AND epoch = $2`,
          [book, String(epoch)],
        );
        await tx.query('INSERT INTO chain_epoch (book, epoch) VALUES ($1, $2)', [book, String(epoch + 1n)]);
        return true;
      },
      { durable: true },
    );
  }

  override async epoch(book: string, epoch: bigint): Promise<EpochAmounts | null> {
    const [row] = await this.#database.query<{
      state: EpochAmounts['state'];
      debits: Record<string, string> | null;
      credits: Record<string, string> | null;
    }>('SELECT state, debits, credits FROM chain_epoch WHERE book = $1 AND epoch = $2', [book, String(epoch)]);
    if (row === undefined) return null;
    return {
      epoch,
      state: row.state,
      debits: new Map(Object.entries(row.debits ?? {}).map(([order, gross]) => [Number(order), BigInt(gross)])),
      credits: new Map(Object.entries(row.credits ?? {}).map(([payee, net]) => [payee, BigInt(net)])),
    };
  }

  override async unanchored(book: string): Promise<bigint | null> {
    const [row] = await this.#database.query<{ epoch: string }>(
      `SELECT e.epoch FROM chain_epoch e
       WHERE e.book = $1 AND e.state <> 'open'
         AND EXISTS (SELECT 1 ${COMMITS} WHERE v.book = e.book AND v.book_epoch = e.epoch)
         AND NOT EXISTS (SELECT 1 FROM chain_transaction t WHERE t.purpose = $2 AND t.ref = e.book || ':' || e.epoch
                           AND t.state NOT IN ('replaced', 'failed'))
       ORDER BY e.epoch LIMIT 1`,
      [book, ANCHOR_PURPOSE],
    );
    return row === undefined ? null : BigInt(row.epoch);
  }

  override async commits(book: string, epoch: bigint): Promise<readonly Commit[]> {
    return this.#database.query<Commit & Record<string, unknown>>(
      `SELECT l.task_id AS task, l.epoch AS "leaseEpoch", '0x' || encode(l.checkpoint_root, 'hex') AS root
       ${COMMITS} WHERE v.book = $1 AND v.book_epoch = $2 ORDER BY l.task_id`,
      [book, String(epoch)],
    );
  }

  override async payeeIndices(book: string, payees: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const rows = await this.#database.query<{ payee: string; payee_index: number }>(
      'SELECT payee, payee_index FROM chain_payee WHERE book = $1 AND payee = ANY($2::text[]) AND payee_index IS NOT NULL',
      [book, payees],
    );
    return new Map(rows.map(({ payee, payee_index }) => [payee, payee_index]));
  }

  override async payable(
    book: string,
    atLeast: bigint,
    limit: number,
  ): Promise<readonly { readonly index: number; readonly amount: bigint }[]> {
    const rows = await this.#database.query<{ payee_index: number; balance: string }>(
      `SELECT p.payee_index, a.balance FROM chain_payee p
       JOIN account a ON a.kind = 'payout' AND a.owner = p.payee AND a.asset = 'money'
       WHERE p.book = $1 AND p.payee_index > 0 AND a.balance > 0 AND a.balance >= $2::numeric
       ORDER BY p.payee_index LIMIT $3`,
      [book, String(atLeast), limit],
    );
    return rows.map(({ payee_index, balance }) => ({ index: payee_index, amount: BigInt(balance) }));
  }

  override async refundable(book: string, next: bigint, limit: number): Promise<readonly number[]> {
    const rows = await this.#database.query<{ order_index: number }>(
      `SELECT order_index FROM chain_order WHERE book = $1 AND state = 'closing' AND close_epoch < $2
       ORDER BY order_index LIMIT $3`,
      [book, String(next), limit],
    );
    return rows.map(({ order_index }) => order_index);
  }
}
