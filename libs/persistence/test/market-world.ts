import { randomUUID } from 'node:crypto';
import { ledger, type PayingOrder } from '@freehold/domain';
import type { LeaseRef } from '@freehold/protocol';
import {
  FEE_BPS,
  LeaseWorld,
  metadataOf,
  OPEN_EPOCH,
  ROW_PRICE,
  type BatchOptions,
} from '@freehold/testing/lease-world';
import { type Database, grantCredits, PgLeaseStore, post } from '../src/index.ts';

export { FEE_BPS, LEASE_MS, RATES, ROW_PRICE } from '@freehold/testing/lease-world';
export const BOOK = `0x${'b0'.repeat(32)}`;

/** Orgs, nodes and jobs as a live market has them, made the short way; leases only through the store under test. */
export class MarketWorld extends LeaseWorld {
  readonly database: Database;
  override readonly store: PgLeaseStore;
  #count = 0;

  constructor(database: Database) {
    super();
    this.database = database;
    this.store = new PgLeaseStore(database);
  }

  async org(credits = 1_000_000n): Promise<string> {
    const id = `org_${this.fresh()}`;
    await this.database.query('INSERT INTO org (id, name) VALUES ($1, $1)', [id]);
    await grantCredits(this.database, id, credits, `trial ${id}`);
    return id;
  }

  /** A batch in progress with its rows and its hold. */
  override async batch(
    rowCount: number,
    options: BatchOptions & {
      readonly org?: string;
      readonly deadlineMs?: number;
      readonly kind?: 'batch' | 'chat';
      /** Who is trusted for the money: decides which order pays. */
      readonly trust?: 'self-custody' | 'operator-credits';
    } = {},
  ): Promise<string> {
    const org = options.org ?? (await this.org());
    const id = `batch_${this.fresh()}`;
    const cap = options.cap ?? ROW_PRICE * BigInt(rowCount);
    const trust = options.trust ?? (options.orders === undefined ? 'operator-credits' : 'self-custody');
    await this.#placeOrders(org, options.orders ?? []);
    await this.database.transaction(async (tx) => {
      await tx.query(
        `INSERT INTO job (id, org_id, kind, state, endpoint, model, cap, row_count, deadline, trust, metadata, region, in_progress_at)
         VALUES ($1, $2, $3, 'in_progress', '/v1/embeddings', 'm', $4, $5, clock_timestamp() + $6 * interval '1 ms', $7, $8, $9, now())`,
        [
          ...[id, org, options.kind ?? 'batch', String(cap), rowCount, options.deadlineMs ?? 3_600_000, trust],
          JSON.stringify(metadataOf(options)),
          options.region ?? null,
        ],
      );
      await tx.query(
        `INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
         SELECT $1, min(n), array_agg('row-' || n ORDER BY n), array_agg(n * 100 ORDER BY n), array_agg(100)
         FROM generate_series(0, $2::int - 1) AS n GROUP BY n / 64`,
        [id, rowCount],
      );
      await post(tx, [ledger.hold(org, id, cap)]);
    });
    return id;
  }

  /** Makes a lease's clock run out, as silence does. */
  override async silence(lease: LeaseRef): Promise<void> {
    await this.database.query(
      `UPDATE lease SET lease_until = now() - interval '1 second', yield_by = yield_by - (lease_until - (now() - interval '1 second'))
       WHERE task_id = $1 AND epoch = $2`,
      [lease.task, lease.epoch],
    );
  }

  override async stall(lease: LeaseRef, forMs: number): Promise<void> {
    await this.database.query(
      `UPDATE lease SET progressed_at = progressed_at - $3 * interval '1 millisecond' WHERE task_id = $1 AND epoch = $2`,
      [lease.task, lease.epoch, forMs],
    );
  }

  override async end(jobId: string, how: 'expire' | 'cancel'): Promise<void> {
    const change =
      how === 'expire'
        ? `deadline = clock_timestamp() - interval '1 s'`
        : `state = 'cancelling', cancelling_at = clock_timestamp()`;
    await this.database.query(`UPDATE job SET ${change} WHERE id = $1 AND state = 'in_progress'`, [jobId]);
  }

  override async jobFacts(jobId: string): Promise<Record<string, unknown>> {
    const job = await this.job(jobId);
    const rows = await this.database.query<{ state: string }>(
      'SELECT state FROM job_row WHERE job_id = $1 ORDER BY row_no',
      [jobId],
    );
    const reason = (job['errors'] as readonly { readonly code: string }[] | null)?.[0]?.code ?? null;
    const { state, charged, next_row: nextRow, rows_succeeded, rows_failed, rows_ended: rowsEnded } = job;
    const counts = {
      charged: String(charged),
      nextRow,
      rowsSucceeded: rows_succeeded,
      rowsFailed: rows_failed,
      rowsEnded,
    };
    return { state, reason, ...counts, rows: rows.map((row) => row.state) };
  }

  async job(id: string): Promise<Record<string, unknown>> {
    const [job] = await this.database.query('SELECT * FROM job WHERE id = $1', [id]);
    return job ?? {};
  }

  async rowStates(jobId: string): Promise<Record<string, number>> {
    const rows = await this.database.query<{ state: string; n: number }>(
      'SELECT state, count(*)::int AS n FROM job_row WHERE job_id = $1 GROUP BY state',
      [jobId],
    );
    return Object.fromEntries(rows.map(({ state, n }) => [state, n]));
  }

  async #placeOrders(org: string, orders: readonly PayingOrder[]): Promise<void> {
    if (orders.length === 0) return;
    await this.database.query(`UPDATE org SET trust = 'self-custody' WHERE id = $1`, [org]);
    for (const { state, closeEpoch, reserved, spent } of orders) {
      const [last] = await this.database.query<{ next: number }>(
        'SELECT coalesce(max(order_index) + 1, 0) AS next FROM chain_order WHERE book = $1',
        [BOOK],
      );
      const index = last?.next ?? 0;
      await this.openBook(org, BOOK, index);
      await this.database.query(
        'UPDATE chain_order SET state = $3, close_epoch = $4, reserved = $5, spent = $6 WHERE book = $1 AND order_index = $2',
        [BOOK, index, state, closeEpoch === null ? null : String(closeEpoch), String(reserved), String(spent)],
      );
    }
  }

  /** A book with an open epoch, and an order of the org in it. */
  async openBook(org: string, book = BOOK, orderIndex = 0): Promise<void> {
    await this.database.query(
      `INSERT INTO chain_book (book, escrow, delegate, fee_bps, starts_at, epoch_seconds, window_seconds, grace_seconds, opened_block)
       VALUES ($1, $2, $2, $3, 0, 60, 60, 60, 1) ON CONFLICT DO NOTHING`,
      [book, `0x${'e5'.repeat(20)}`, FEE_BPS],
    );
    await this.database.query('INSERT INTO chain_epoch (book, epoch) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
      book,
      String(OPEN_EPOCH),
    ]);
    await this.database.query(
      `INSERT INTO chain_order (book, order_index, params, org_id, payer, refund_to, reserved, opened_block)
       VALUES ($1, $2, $3, $4, '0x', '0x', 1000000, 1)`,
      [book, orderIndex, Buffer.alloc(8), org],
    );
  }

  protected override fresh(): string {
    this.#count += 1;
    return `${this.#count}x${randomUUID().slice(0, 8)}`;
  }
}
