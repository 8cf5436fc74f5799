import { randomUUID } from 'node:crypto';
import { ledger, type Amount, type PayingOrder } from '@freehold/domain';
import type { Trust } from '@freehold/market';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import { LeaseWorld, metadataOf, OPEN_EPOCH, ROW_PRICE, type BatchOptions } from '../../lease-world.ts';
import { MemoryDatabase } from './database.ts';
import { post } from './ledger.ts';
import { MemoryLeaseStore } from './memory-lease-store.ts';
import {} from './task-moves.ts';

/** The simulator's store under the same demands as PostgreSQL's. */
export class MemoryLeaseWorld extends LeaseWorld {
  readonly db = new MemoryDatabase({ nowMs: () => Date.now(), uuid: () => randomUUID() });
  override readonly store = new MemoryLeaseStore(this.db);
  #count = 0;

  override async batch(rowCount: number, options: BatchOptions = {}): Promise<string> {
    const { cap, orders = [], region = null } = options;
    const id = `batch_${this.fresh()}`;
    const trust = orders.length > 0 ? ('self-custody' as const) : ('operator-credits' as const);
    const metadata = metadataOf(options);
    const parts = { id, orgId: `org_${id}`, trust, rowCount, metadata, cap: cap ?? ROW_PRICE * BigInt(rowCount) };
    this.db.transaction(() => {
      batchInProgress(this.db, parts);
      this.db.jobs.update(id, { region });
      for (const order of orders) this.#place(parts.orgId, order);
    });
    return Promise.resolve(id);
  }
  override async silence(lease: LeaseRef): Promise<void> {
    const { leaseUntilMs, yieldByMs } = this.db.leases.must(leaseKey(lease));
    const passedMs = leaseUntilMs - (this.db.nowMs - 1_000);
    this.db.leases.update(leaseKey(lease), {
      leaseUntilMs: leaseUntilMs - passedMs,
      yieldByMs: yieldByMs === null ? null : yieldByMs - passedMs,
    });
    await Promise.resolve();
  }
  override async stall(lease: LeaseRef, forMs: number): Promise<void> {
    const { progressedMs } = this.db.leases.must(leaseKey(lease));
    this.db.leases.update(leaseKey(lease), { progressedMs: progressedMs - forMs });
    await Promise.resolve();
  }
  override async end(jobId: string, how: 'expire' | 'cancel'): Promise<void> {
    if (this.db.jobs.must(jobId).state !== 'in_progress') return;
    const nowMs = this.db.nowMs;
    this.db.jobs.update(
      jobId,
      how === 'expire' ? { deadlineMs: nowMs - 1_000 } : { state: 'cancelling', cancellingMs: nowMs },
    );
    await Promise.resolve();
  }
  override async jobFacts(jobId: string): Promise<Record<string, unknown>> {
    const { state, faults, charged, nextRow, rowsSucceeded, rowsFailed, rowsEnded } = this.db.jobs.must(jobId);
    const rows = this.db.rows.where((row) => row.jobId === jobId).sort((a, b) => a.rowNo - b.rowNo);
    const counts = { charged: String(charged), nextRow, rowsSucceeded, rowsFailed, rowsEnded };
    return { state, reason: faults?.[0]?.code ?? null, ...counts, rows: rows.map((row) => row.state) };
  }
  #place(orgId: string, order: PayingOrder): void {
    const { db } = this;
    db.chainBooks.put('book', { book: 'book', delegate: 'delegate', isAlive: true });
    const none = { debits: new Map<number, bigint>(), credits: new Map<string, bigint>() };
    db.chainEpochs.put(String(OPEN_EPOCH), { epoch: OPEN_EPOCH, state: 'open', ...none });
    const index = db.chainOrders.size;
    const facts = { order: index, params: '0x', orgId, isOperator: false, payer: '0x', free: 0n };
    db.chainOrders.insert(String(index), { ...facts, ...order });
  }
  protected override fresh(): string {
    this.#count += 1;
    return String(this.#count);
  }
}

/** A batch with its org, rows and hold, as validation leaves it: the short way there, for tests of what comes after. */
function batchInProgress(
  db: MemoryDatabase,
  {
    id,
    orgId,
    rowCount,
    cap,
    trust,
    metadata,
  }: {
    readonly id: string;
    readonly orgId: string;
    readonly rowCount: number;
    readonly cap: Amount;
    readonly trust: Trust;
    readonly metadata: Readonly<Record<string, string>>;
  },
): void {
  db.orgs.insert(orgId, { id: orgId, trust, wallet: null });
  post(db, [ledger.credit(orgId, cap, `trial ${orgId}`), ledger.hold(orgId, id, cap)]);
  db.jobs.insert(id, {
    ...{ id, orgId, keyId: 'key', state: 'in_progress', endpoint: '/v1/embeddings', model: 'm', tuned: null },
    ...{ inputFileId: `file-${id}`, outputFileId: null, errorFileId: null, completionWindow: '24h', metadata },
    ...{ verify: 'spot', region: null, priority: 0, trust, cap, charged: 0n, rateCaps: {}, counted: null, worst: null },
    ...{ rowCount, nextRow: 0, rowsSucceeded: 0, rowsFailed: 0, rowsEnded: 0, faults: null },
    ...{ deadlineMs: db.nowMs + 3_600_000, createdMs: db.nowMs, cancellingMs: null, enteredMs: {} },
  });
  for (let rowNo = 0; rowNo < rowCount; rowNo += 1) {
    const place = { customId: `row-${rowNo}`, offset: rowNo * 100, length: 100 };
    const open = { state: 'pending', errorCode: null, errorMessage: null, result: null } as const;
    db.rows.insert(`${id}/${rowNo}`, { jobId: id, rowNo, ...place, ...open });
  }
}
