import {
  JobStore,
  type BatchFault,
  type Begun,
  type JobView,
  type Listed,
  type NewBatch,
  type NewRow,
  type NewStream,
  type Once,
  type OutputFile,
  type Page,
  type ReadBatch,
  type ReceiptView,
  type RequestIdentity,
  type ResultRow,
  type Started,
  type StartPlan,
  type StreamAnswer,
  type StreamLease,
  type StreamOpened,
  type TaskMove,
  type Topic,
} from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';
import type { Database } from '../database.ts';
import { Window } from '../window.ts';
import { addRows, cancelJob, failBatch, startBatch, submitBatches, type ReadRows, type Submitted } from './batches.ts';
import { beginBatch } from './begin-batch.ts';
import { finish, results } from './endings.ts';
import { JOB_COLUMNS, jobView, type JobRecord } from './job-row.ts';
import { failStream, moveStream, openStream, streamAnswer } from './streams.ts';

/** Short beside what a commit takes, long enough for those who come at once. */
const WINDOW_MS = 3;
const SUBMISSIONS_MAX = 256;
const ROWS_MAX = 8_000;

/** Jobs in PostgreSQL. One file per part of a job's life: batches, streams, endings. */
export class PgJobStore extends JobStore {
  readonly #database: Database;
  readonly #filed: (topic: Topic) => void;
  readonly #submitted: Window<Submitted, Once<JobView>>;
  readonly #read: Window<ReadRows, boolean>;
  /** Batches that are being begun. */
  #beginning = 0;

  /**
   * @param filed Called when work for the queue was committed that somebody waits for: a hint, nothing is lost without it.
   * @param windowMs How long a submission waits for others to share its commit; 0: not at all.
   */
  constructor(database: Database, filed: (topic: Topic) => void = () => undefined, windowMs = WINDOW_MS) {
    super();
    this.#database = database;
    this.#filed = filed;
    this.#submitted = new Window((items) => submitBatches(database, items), {
      windowMs,
      weightMax: SUBMISSIONS_MAX,
      weightOf: () => 1,
    });
    this.#read = new Window((items) => addRows(database, items), {
      windowMs,
      weightMax: ROWS_MAX,
      weightOf: ({ rows }) => rows.length,
    });
  }

  async submitBatch(batch: NewBatch, identity: RequestIdentity | null): Promise<Once<JobView>> {
    const made = await this.#submitted.add({ batch, identity });
    if (made.outcome === 'made') this.#filed('validate');
    return made;
  }

  async beginBatch(batch: ReadBatch, identity: RequestIdentity | null): Promise<Begun> {
    // Who comes alone saves the schedulers a message that follows the commit; of several, all are told by one after it.
    const isAlone = this.#beginning === 0;
    this.#beginning += 1;
    try {
      const begun = await beginBatch(this.#database, batch, identity, isAlone);
      if (begun.outcome === 'made' && !isAlone) this.#filed('place');
      return begun;
    } finally {
      this.#beginning -= 1;
    }
  }

  async get(orgId: string, jobId: string): Promise<JobView | null> {
    const [row] = await this.#database.query<JobRecord>(
      `SELECT ${JOB_COLUMNS} FROM job WHERE id = $1 AND org_id = $2`,
      [jobId, orgId],
    );
    return row === undefined ? null : jobView(row);
  }

  async find(jobId: string): Promise<JobView | null> {
    const [row] = await this.#database.query<JobRecord>(`SELECT ${JOB_COLUMNS} FROM job WHERE id = $1`, [jobId]);
    return row === undefined ? null : jobView(row);
  }

  async list(orgId: string, page: Page): Promise<Listed<JobView> | null> {
    const after = page.after === null ? null : await this.get(orgId, page.after);
    if (page.after !== null && after?.kind !== 'batch') return null;
    const isUp = page.order === 'asc';
    const rows = await this.#database.query<JobRecord>(
      `SELECT ${JOB_COLUMNS} FROM job
       WHERE org_id = $1 AND kind = 'batch'
         AND ($2::text IS NULL OR (created_at, id) ${isUp ? '>' : '<'} (SELECT created_at, id FROM job WHERE id = $2 AND org_id = $1))
       ORDER BY created_at ${isUp ? 'ASC' : 'DESC'}, id ${isUp ? 'ASC' : 'DESC'} LIMIT $3`,
      [orgId, page.after, page.limit + 1],
    );
    return { items: rows.slice(0, page.limit).map(jobView), hasMore: rows.length > page.limit };
  }

  addRows(jobId: string, rows: readonly NewRow[]): Promise<boolean> {
    return this.#read.add({ jobId, rows });
  }
  async start(jobId: string, plan: StartPlan): Promise<Started> {
    const started = await startBatch(this.#database, jobId, plan);
    if (started.started) this.#filed('place');
    return started;
  }
  fail(jobId: string, faults: readonly BatchFault[]): Promise<boolean> {
    return failBatch(this.#database, jobId, faults);
  }
  cancel(orgId: string, jobId: string): Promise<{ readonly cancelled: boolean; readonly job: JobView } | null> {
    return cancelJob(this.#database, orgId, jobId, 'batch');
  }

  results(jobId: string, fromRow: number, limit: number): Promise<readonly ResultRow[]> {
    return results(this.#database, jobId, fromRow, limit);
  }
  finish(
    jobId: string,
    files: { readonly output: OutputFile | null; readonly errors: OutputFile | null },
  ): Promise<boolean> {
    return finish(this.#database, jobId, files);
  }

  async setAdapter(jobId: string, adapter: string): Promise<void> {
    await this.#database.query('UPDATE job SET adapter = $2 WHERE id = $1', [jobId, adapter]);
  }
  openStream(stream: NewStream): Promise<StreamOpened> {
    return openStream(this.#database, stream);
  }
  moveStream(lease: LeaseRef, why: string, to: StreamLease, leaseMs: number): Promise<LeaseRef | null> {
    return moveStream(this.#database, lease, why, to, leaseMs);
  }
  failStream(lease: LeaseRef, code: string, message: string): Promise<boolean> {
    return failStream(this.#database, lease, code, message);
  }
  streamAnswer(orgId: string, jobId: string): Promise<StreamAnswer | null> {
    return streamAnswer(this.#database, orgId, jobId);
  }

  async timeline(orgId: string, jobId: string, limit: number): Promise<readonly TaskMove[]> {
    const rows = await this.#database.query<{
      task_id: string;
      epoch: number;
      from_state: TaskMove['from'];
      to_state: TaskMove['to'];
      why: string | null;
      at: Date;
    }>(
      `SELECT task_id, epoch, from_state, to_state, why, at FROM (
         SELECT e.* FROM task_event e JOIN job ON job.id = e.job_id AND job.org_id = $1
         WHERE e.job_id = $2 ORDER BY e.id DESC LIMIT $3
       ) AS line, unnest(task_ids) WITH ORDINALITY AS moved (task_id, no) ORDER BY id DESC, no DESC LIMIT $3`,
      [orgId, jobId, limit],
    );
    return rows.reverse().map((row) => ({
      taskId: row.task_id,
      epoch: row.epoch,
      from: row.from_state,
      to: row.to_state,
      why: row.why,
      atMs: row.at.getTime(),
    }));
  }

  async receipts(orgId: string, jobId: string, limit: number): Promise<readonly ReceiptView[]> {
    const rows = await this.#database.query<{
      task_id: string;
      epoch: number;
      rows: number;
      charge: string;
      accepted_at: Date;
      document: Record<string, unknown>;
    }>(
      `SELECT task_id, epoch, rows, charge, accepted_at, document FROM receipt WHERE org_id = $1 AND job_id = $2 ORDER BY accepted_at, task_id LIMIT $3`,
      [orgId, jobId, limit],
    );
    return rows.map((row) => ({
      taskId: row.task_id,
      epoch: row.epoch,
      rows: row.rows,
      charge: BigInt(row.charge),
      acceptedAtMs: row.accepted_at.getTime(),
      document: row.document,
    }));
  }
}
