import { leaseKey } from '@freehold/protocol';
import { addUsage, ledger, type Usage } from '@freehold/domain';
import {
  JobStore,
  type BatchFault,
  type Begun,
  type JobView,
  type Listed,
  type NewBatch,
  type NewRow,
  type Once,
  type OutputFile,
  type ReadBatch,
  type ReceiptView,
  type RequestIdentity,
  type ResultRow,
  type Started,
  type StartPlan,
  type TaskMove,
} from '@freehold/market';
import type { JobRow, MemoryDatabase } from './database.ts';
import { coveredFor, dropRows, isOver } from './endings.ts';
import { balanceOf, post } from './ledger.ts';
import { enter, rowsOf } from './task-moves.ts';

/** Undoes the beginning of a batch whose money is not there. */
class NotBegun extends Error {}

/** {@link JobStore} in memory, for batches. */
export class MemoryJobStore extends JobStore {
  readonly #db: MemoryDatabase;

  constructor(db: MemoryDatabase) {
    super();
    this.#db = db;
  }

  async submitBatch(batch: NewBatch, identity: RequestIdentity | null): Promise<Once<JobView>> {
    return this.#db.transaction(() => {
      const earlier = identity === null ? null : this.#claim(batch, identity);
      if (earlier !== null) return earlier;
      const job = this.#insert(batch);
      this.#db.file('validate', { job: job.id });
      return { outcome: 'made', value: this.#view(job) };
    });
  }

  async beginBatch(batch: ReadBatch, identity: RequestIdentity | null): Promise<Begun> {
    const { id, orgId, inputFileId, plan, rows } = batch;
    try {
      return this.#db.transaction(() => {
        const file = this.#db.files.get(inputFileId);
        if (file?.orgId !== orgId || file.purpose !== 'batch') return { outcome: 'refused' };
        const earlier = identity === null ? null : this.#claim(batch, identity);
        if (earlier !== null) return earlier;
        this.#insert(batch);
        this.#insertRows(id, rows);
        if (!this.#start(id, plan).started) throw new NotBegun();
        return { outcome: 'made', value: this.#view(this.#db.jobs.must(id)) };
      });
    } catch (error) {
      if (error instanceof NotBegun) return { outcome: 'refused' };
      throw error;
    }
  }

  #insert(batch: NewBatch): JobRow {
    const { id, orgId, keyId, endpoint, inputFileId, completionWindow, metadata, verify, region, priority } = batch;
    const counts = { rowCount: 0, nextRow: 0, rowsSucceeded: 0, rowsFailed: 0, rowsEnded: 0 };
    const job: JobRow = {
      ...{ id, orgId, keyId, endpoint, inputFileId, completionWindow, metadata, verify, region, priority },
      ...counts,
      state: 'validating',
      model: null,
      tuned: null,
      outputFileId: null,
      errorFileId: null,
      trust: this.#db.orgs.must(orgId).trust,
      cap: null,
      charged: 0n,
      rateCaps: {},
      counted: null,
      worst: null,
      faults: null,
      deadlineMs: this.#db.nowMs + batch.deadlineInMs,
      createdMs: this.#db.nowMs,
      cancellingMs: null,
      enteredMs: { validating: this.#db.nowMs },
    };
    this.#db.jobs.insert(id, job);
    return job;
  }

  /** What an earlier request of this identity is answered with, or null when this one is the first. */
  #claim({ orgId, id }: NewBatch, { key, route, bodyHash, replayWithinMs }: RequestIdentity): Once<JobView> | null {
    const of = `${orgId} ${key}`;
    const known = this.#db.identities.get(of);
    const hash = Buffer.from(bodyHash).toString('hex');
    if (known !== undefined && known.atMs > this.#db.nowMs - replayWithinMs) {
      if (known.route !== route || known.bodyHash !== hash) return { outcome: 'key-reused' };
      return { outcome: 'repeated', value: this.#view(this.#db.jobs.must(known.subject)) };
    }
    this.#db.identities.put(of, { bodyHash: hash, route, subject: id, atMs: this.#db.nowMs });
    return null;
  }

  async get(orgId: string, jobId: string): Promise<JobView | null> {
    const job = this.#db.jobs.get(jobId);
    return job?.orgId === orgId ? this.#view(job) : null;
  }
  async find(jobId: string): Promise<JobView | null> {
    const job = this.#db.jobs.get(jobId);
    return job === undefined ? null : this.#view(job);
  }
  async list(orgId: string): Promise<Listed<JobView> | null> {
    return { items: this.#db.jobs.where((job) => job.orgId === orgId).map((job) => this.#view(job)), hasMore: false };
  }

  async addRows(jobId: string, rows: readonly NewRow[]): Promise<boolean> {
    return this.#db.transaction(() => {
      if (this.#db.jobs.get(jobId)?.state !== 'validating') return false;
      this.#insertRows(jobId, rows);
      return true;
    });
  }

  #insertRows(jobId: string, rows: readonly NewRow[]): void {
    for (const row of rows) {
      const key = `${jobId}/${row.rowNo}`;
      const open = { state: 'pending', errorCode: null, errorMessage: null, result: null } as const;
      if (this.#db.rows.get(key) === undefined) this.#db.rows.insert(key, { ...row, jobId, ...open });
    }
  }

  async start(jobId: string, plan: StartPlan): Promise<Started> {
    return this.#db.transaction(() => this.#start(jobId, plan));
  }

  #start(jobId: string, plan: StartPlan): Started {
    const job = this.#db.jobs.get(jobId);
    if (job?.state !== 'validating') return { started: false, why: 'moved-by-another' };
    const rows = this.#db.rows.where((row) => row.jobId === jobId);
    const ids = new Set(rows.map(({ customId }) => customId)).size;
    if (rows.length !== plan.rowCount || ids !== plan.rowCount)
      throw new Error(`batch ${jobId} has ${rows.length} rows under ${ids} custom_ids: its file has ${plan.rowCount}`);
    const covered = coveredFor(this.#db, job.orgId);
    const own = balanceOf(this.#db, ledger.balanceOf(job.orgId));
    const balance = covered !== null && covered < own ? covered : own;
    if (balance < plan.cap) return { started: false, why: 'insufficient-balance', balance };
    post(this.#db, [ledger.hold(job.orgId, jobId, plan.cap)]);
    // Rows of the market in memory make vectors: they share no prompt.
    const { promptBlocks: _, ...started } = plan;
    enter(this.#db, job, 'in_progress', started);
    this.#db.file('place', { job: jobId });
    return { started: true };
  }

  async fail(jobId: string, faults: readonly BatchFault[]): Promise<boolean> {
    return this.#db.transaction(() => {
      const job = this.#db.jobs.get(jobId);
      if (job?.state !== 'validating') return false;
      enter(this.#db, job, 'failed', { faults });
      dropRows(this.#db, jobId);
      return true;
    });
  }

  async cancel(orgId: string, jobId: string): Promise<{ readonly cancelled: boolean; readonly job: JobView } | null> {
    return this.#db.transaction(() => {
      const job = this.#db.jobs.get(jobId);
      if (job?.orgId !== orgId) return null;
      if (job.state !== 'validating' && job.state !== 'in_progress') return { cancelled: false, job: this.#view(job) };
      const moved = enter(this.#db, job, job.state === 'validating' ? 'cancelled' : 'cancelling', {
        cancellingMs: this.#db.nowMs,
      });
      if (moved.state === 'cancelled') dropRows(this.#db, jobId);
      return { cancelled: true, job: this.#view(moved) };
    });
  }

  async results(jobId: string, fromRow: number, limit: number): Promise<readonly ResultRow[]> {
    const job = this.#db.jobs.must(jobId);
    return rowsOf(jobId, fromRow, Math.min(job.rowCount, fromRow + limit)).map(([key]) => {
      const row = this.#db.rows.must(key);
      const lease = row.result === null ? undefined : this.#db.leases.must(leaseKey(row.result));
      const from = { digest: lease?.digest ?? '', engineClass: lease?.engineClass ?? '', endedAtMs: this.#db.nowMs };
      const { rowNo, customId, state, errorCode, errorMessage } = row;
      const input = { inputOffset: row.offset, inputLength: row.length };
      return {
        rowNo,
        customId,
        ...input,
        state,
        errorCode,
        errorMessage,
        result: row.result === null ? null : { ...row.result, ...from },
      };
    });
  }

  async finish(
    jobId: string,
    files: { readonly output: OutputFile | null; readonly errors: OutputFile | null },
  ): Promise<boolean> {
    return this.#db.transaction(() => {
      const job = this.#db.jobs.get(jobId);
      if (job?.state !== 'finalizing') return false;
      for (const file of [files.output, files.errors]) {
        if (file === null || this.#db.files.get(file.id) !== undefined) continue;
        const { id, filename, bytes } = file;
        const times = { createdAtMs: this.#db.nowMs, expiresAtMs: null };
        this.#db.files.insert(id, { id, orgId: job.orgId, purpose: 'batch_output', filename, bytes, ...times });
      }
      const isExpired = this.#db.rows.where((row) => row.jobId === jobId && row.state === 'expired').length > 0;
      const end = job.cancellingMs !== null ? 'cancelled' : isExpired ? 'expired' : 'completed';
      enter(this.#db, job, end, { outputFileId: files.output?.id ?? null, errorFileId: files.errors?.id ?? null });
      return true;
    });
  }

  async timeline(orgId: string, jobId: string, limit: number): Promise<readonly TaskMove[]> {
    const tasks = new Set(
      this.#db.tasks.where((task) => task.jobId === jobId && task.orgId === orgId).map(({ id }) => id),
    );
    const moves = this.#db.taskEvents.where((event) => tasks.has(event.task)).slice(0, limit);
    return moves.map(({ task, ...move }) => ({ taskId: task, ...move }));
  }

  async receipts(orgId: string, jobId: string, limit: number): Promise<readonly ReceiptView[]> {
    if (this.#db.jobs.get(jobId)?.orgId !== orgId) return [];
    const found = this.#db.receipts.where((receipt) => receipt.jobId === jobId).slice(0, limit);
    return found.map(({ task, epoch, rows, charge, document }) => ({
      taskId: task,
      epoch,
      rows,
      charge,
      acceptedAtMs: 0,
      document,
    }));
  }

  async setAdapter(): Promise<void> {
    await batchesOnly('adapters');
  }
  openStream(): Promise<never> {
    return batchesOnly('streams');
  }
  moveStream(): Promise<never> {
    return batchesOnly('streams');
  }
  failStream(): Promise<never> {
    return batchesOnly('streams');
  }
  streamAnswer(): Promise<never> {
    return batchesOnly('streams');
  }

  #view(job: JobRow): JobView {
    const { deadlineMs, createdMs, enteredMs, cancellingMs: _, nextRow: __, keyId: ___, ...facts } = job;
    const times = { deadlineAtMs: deadlineMs, createdAtMs: createdMs, enteredAtMs: enteredMs };
    return { ...facts, ...times, kind: 'batch', poolId: null, usage: isOver(job) ? this.#usage(job.id) : null };
  }

  #usage(jobId: string): Usage {
    const receipts = this.#db.receipts.where((receipt) => receipt.jobId === jobId);
    return receipts.reduce<Usage>((sum, { usage }) => addUsage(sum, usage), {});
  }
}

function batchesOnly(what: string): Promise<never> {
  return Promise.reject(new Error(`the market in memory has batches; ${what} are run against PostgreSQL`));
}
