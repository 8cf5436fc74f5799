import { randomBytes, randomUUID } from 'node:crypto';
import { GrowingTree, ledger, type Rates, type Usage } from '@freehold/domain';
import type { Acceptance, DeliveredRow, GrantedLease, LeaseWish } from '@freehold/market';
import type { LeaseRef, SignedOffer } from '@freehold/protocol';
import { type Database, grantCredits, PgLeaseStore, post } from '../src/index.ts';

export const LEASE_MS = 15_000;
/** 1,000,000 per million units: a row of 10 tokens costs 10. */
export const RATES: Rates = { embeddingToken: 1_000_000n };
const TOKENS_PER_ROW = 10n;
export const ROW_PRICE = 10n;
export const FEE_BPS = 500;
export const BOOK = `0x${'b0'.repeat(32)}`;

/** Orgs, nodes and jobs as a live market has them, made the short way; leases only through the store under test. */
export class MarketWorld {
  readonly database: Database;
  readonly store: PgLeaseStore;
  #count = 0;

  constructor(database: Database) {
    this.database = database;
    this.store = new PgLeaseStore(database);
  }

  async org(credits = 1_000_000n): Promise<string> {
    const id = `org_${this.#next()}`;
    await this.database.query('INSERT INTO org (id, name) VALUES ($1, $1)', [id]);
    await grantCredits(this.database, id, credits, `trial ${id}`);
    return id;
  }

  async node(seq = 1): Promise<string> {
    const offer = this.offer(`node${this.#next()}`, seq);
    await this.store.rememberNode(offer);
    return offer.offer.node;
  }

  offer(node: string, seq: number, expiresInS = 3_600): SignedOffer {
    const address = `0x${Buffer.from(node.padEnd(20, '.')).subarray(0, 20).toString('hex')}`;
    const offer = {
      v: 1 as const,
      node,
      address,
      payout: address,
      seq,
      expiresAt: Math.floor(Date.now() / 1_000) + expiresInS,
      region: 'here',
      isolation: 'none' as const,
      gpus: [],
      cpuMilli: 2_000,
      memoryMib: 1_024,
      diskMib: 1_024,
      engines: [],
      pools: [],
      noticeS: 0,
      exposureMax: '1000000',
      chatSharePercent: 50,
    };
    return { offer, signature: `0x${'11'.repeat(65)}` };
  }

  /** A batch in progress with its rows and its hold. */
  async batch(
    rowCount: number,
    options: {
      readonly org?: string;
      readonly cap?: bigint;
      readonly deadlineMs?: number;
      readonly kind?: 'batch' | 'chat';
      /** Who is trusted for the money: decides which order pays. */
      readonly trust?: 'self-custody' | 'operator-credits';
    } = {},
  ): Promise<string> {
    const org = options.org ?? (await this.org());
    const id = `batch_${this.#next()}`;
    const cap = options.cap ?? ROW_PRICE * BigInt(rowCount);
    await this.database.transaction(async (tx) => {
      await tx.query(
        `INSERT INTO job (id, org_id, kind, state, endpoint, model, cap, row_count, deadline, trust, in_progress_at)
         VALUES ($1, $2, $3, 'in_progress', '/v1/embeddings', 'm', $4, $5, clock_timestamp() + $6 * interval '1 ms', $7, now())`,
        [
          id,
          org,
          options.kind ?? 'batch',
          String(cap),
          rowCount,
          options.deadlineMs ?? 3_600_000,
          options.trust ?? 'operator-credits',
        ],
      );
      await tx.query(
        `INSERT INTO job_row (job_id, row_no, custom_id, input_offset, input_length)
         SELECT $1, n, 'row-' || n, n * 100, 100 FROM generate_series(0, $2::int - 1) AS n`,
        [id, rowCount],
      );
      await post(tx, [ledger.hold(org, id, cap)]);
    });
    return id;
  }

  wish(jobId: string, nodeId: string, rowFrom: number, rowTo: number, task: LeaseRef | null = null): LeaseWish {
    return {
      jobId,
      taskId: task?.task ?? null,
      epoch: task?.epoch ?? 1,
      rowFrom,
      rowTo,
      nodeId,
      model: 'm',
      digest: `sha256:${'0'.repeat(64)}`,
      engineClass: 'use-lite',
      rates: RATES,
      nonce: `0x${randomBytes(16).toString('hex')}`,
    };
  }

  /** One lease over rows [from, to) of a job, granted and started. */
  async lease(jobId: string, nodeId: string, rowFrom: number, rowTo: number): Promise<GrantedLease> {
    const [lease] = await this.store.grant([this.wish(jobId, nodeId, rowFrom, rowTo)], LEASE_MS);
    if (lease === undefined) throw new Error(`rows ${rowFrom}–${rowTo} of ${jobId} were not granted`);
    await this.store.start(lease);
    return lease;
  }

  rows(lease: GrantedLease, from: number, to: number, failing: readonly number[] = []): DeliveredRow[] {
    return Array.from({ length: to - from }, (_, i) => {
      const rowNo = lease.rowFrom + from + i;
      const succeeded = !failing.includes(rowNo);
      const usage: Usage = succeeded ? { embeddingToken: TOKENS_PER_ROW } : {};
      return { rowNo, offset: (from + i) * 50, length: 50, leafHash: leaf(lease, rowNo), succeeded, usage };
    });
  }

  at(
    lease: GrantedLease,
    n: number,
  ): { n: number; root: string; signature: string; last: boolean; drawHeight: bigint | null } {
    const tree = new GrowingTree();
    for (let i = 0; i < n; i += 1) tree.addHash(leaf(lease, lease.rowFrom + i));
    const last = n === lease.rowTo - lease.rowFrom;
    const root = `0x${Buffer.from(tree.root()).toString('hex')}`;
    return { n, root, signature: `0x${'22'.repeat(65)}`, last, drawHeight: last ? 7n : null };
  }

  async deliver(lease: GrantedLease, failing: readonly number[] = []): Promise<void> {
    const rows = lease.rowTo - lease.rowFrom;
    await this.store.checkpoint(lease, this.rows(lease, 0, rows, failing), this.at(lease, rows));
  }

  /** What verification hands to `accept`, read from what was really delivered. */
  async acceptance(ref: LeaseRef): Promise<Acceptance> {
    const view = await this.store.view(ref);
    const rows = await this.store.delivered(ref);
    const succeeded = rows.filter((row) => row.succeeded).length;
    const tokens = rows.reduce((sum, row) => sum + (row.usage.embeddingToken ?? 0n), 0n);
    return {
      task: ref.task,
      epoch: ref.epoch,
      rows: rows.length,
      rowsSucceeded: succeeded,
      audited: 1,
      draw: 'coordinator',
      usage: { embeddingToken: tokens },
      due: tokens,
      feeBps: FEE_BPS,
      root: view?.checkpointRoot ?? '0x',
      document: (charge, fee) => ({ task: ref.task, charge: String(charge), fee: String(fee) }),
    };
  }

  /** Draws a row, finds it good, accepts: what verification does. */
  async accept(ref: LeaseRef): Promise<Awaited<ReturnType<PgLeaseStore['accept']>>> {
    const [row] = await this.store.delivered(ref);
    if (row === undefined) return { moved: false, why: 'not-found' };
    const drawn = await this.store.saveDraw(ref, `0x${'5e'.repeat(32)}`, [row.rowNo]);
    if (!drawn.moved) return drawn;
    await this.store.saveFindings(ref, [
      { rowNo: row.rowNo, auditor: 'auditor', auditorKind: 'coordinator', verdict: 'good', score: { cosine: 1 } },
    ]);
    return this.store.accept(await this.acceptance(ref));
  }

  /** Makes a lease's clock run out, as silence does. */
  async silence(lease: LeaseRef): Promise<void> {
    await this.database.query(
      `UPDATE lease SET lease_until = clock_timestamp() - interval '1 second' WHERE task_id = $1 AND epoch = $2`,
      [lease.task, lease.epoch],
    );
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

  /** A book with an open epoch, and an order of the org in it. */
  async openBook(org: string, book = BOOK, orderIndex = 0): Promise<void> {
    await this.database.query(
      `INSERT INTO chain_book (book, escrow, delegate, fee_bps, starts_at, epoch_seconds, window_seconds, grace_seconds, opened_block)
       VALUES ($1, $2, $2, $3, 0, 60, 60, 60, 1) ON CONFLICT DO NOTHING`,
      [book, `0x${'e5'.repeat(20)}`, FEE_BPS],
    );
    await this.database.query('INSERT INTO chain_epoch (book, epoch) VALUES ($1, 1) ON CONFLICT DO NOTHING', [book]);
    await this.database.query(
      `INSERT INTO chain_order (book, order_index, params, org_id, payer, refund_to, reserved, opened_block)
       VALUES ($1, $2, $3, $4, '0x', '0x', 1000000, 1)`,
      [book, orderIndex, Buffer.alloc(8), org],
    );
  }

  #next(): string {
    this.#count += 1;
    return `${this.#count}x${randomUUID().slice(0, 8)}`;
  }
}

function leaf(lease: LeaseRef, rowNo: number): Uint8Array {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, rowNo);
  bytes.set(Buffer.from(lease.task.replaceAll('-', ''), 'hex').subarray(0, 16), 8);
  return bytes;
}
