import type { JobState } from '@freehold/domain';
import type { OutputFile, ResultRow } from '@freehold/market';
import type { Database, Sql } from '../database.ts';
import { releaseHolds } from '../ledger/ledger.ts';
import { fileWork } from '../outbox.ts';
import { JOB_COLUMNS, type JobRecord } from './job-row.ts';

/** Inputs and outputs are kept for thirty days, as the terms say. */
const RETENTION = '30 days';
/** A cancelled batch waits so long for the verdict on work that was delivered before: it is paid for if it is good. */
const VERDICT_WAIT = '60 seconds';
const LOOK_AGAIN_MS = 1_000;

/**
 * Stops what still moves of a job whose files are to be written. Work that was delivered and waits for its verdict gets a
 * minute for it; the rest of the tasks end at once, and rows without an answer get their terminal record.
 */
export async function freeze(database: Database, jobId: string): Promise<boolean> {
  return database.transaction(
    async (tx) => {
      const job = await lockWaiting(tx, jobId);
      if (job === null) return false;
      const [facts] = await tx.query<{ judged: number; patient: boolean; late: boolean }>(
        `SELECT (SELECT count(*) FROM task WHERE job_id = $1 AND state = 'delivered')::int AS judged,
           coalesce(cancelling_at > clock_timestamp() - interval '${VERDICT_WAIT}', false) AS patient, deadline <= clock_timestamp() AS late
         FROM job WHERE id = $1`,
        [jobId],
      );
      const waits = job.state === 'cancelling' && (facts?.judged ?? 0) > 0 && facts?.patient === true;
      const ending = job.cancelling_at !== null || facts?.late !== true ? 'cancelled' : 'expired';
      await endTasks(tx, jobId, ending, waits);
      if (waits) {
        await fileWork(tx, [{ topic: 'finalize', ids: { job: jobId }, delayMs: LOOK_AGAIN_MS }]);
        return false;
      }
      await endRows(tx, jobId, ending);
      return true;
    },
    { durable: true },
  );
}

/** A job that waits for its files: finalizing, cancelling, or expired without having got them. */
async function lockWaiting(tx: Sql, jobId: string): Promise<JobRecord | null> {
  const [job] = await tx.query<JobRecord>(
    `SELECT ${JOB_COLUMNS} FROM job
     WHERE id = $1 AND (state IN ('finalizing', 'cancelling')
       OR (state IN ('expired', 'cancelled') AND kind = 'batch' AND row_count > 0 AND output_file_id IS NULL AND error_file_id IS NULL))
     FOR UPDATE`,
    [jobId],
  );
  return job ?? null;
}

/** Leases before tasks: the order in which every mover of tasks takes its locks. */
async function endTasks(tx: Sql, jobId: string, ending: 'cancelled' | 'expired', spareDelivered: boolean): Promise<void> {
  const states = spareDelivered ? ['queued', 'leased', 'running'] : ['queued', 'leased', 'running', 'delivered'];
  const params = [jobId, ending, states];
  await tx.query(
    `SELECT 1 FROM lease l JOIN task t ON t.id = l.task_id AND t.epoch = l.epoch
     WHERE t.job_id = $1 AND t.state = ANY($2) AND l.ended_at IS NULL ORDER BY l.task_id FOR NO KEY UPDATE OF l`,
    [jobId, states],
  );
  await tx.query(
    `UPDATE lease l SET ended_at = clock_timestamp(), outcome = $2, why = 'the job was ' || $2 FROM task t
     WHERE t.job_id = $1 AND t.state = ANY($3) AND l.task_id = t.id AND l.epoch = t.epoch AND l.ended_at IS NULL`,
    params,
  );
  await tx.query(
    `UPDATE task SET state = $2, ended_at = clock_timestamp(), why = 'the job was ' || $2 WHERE job_id = $1 AND state = ANY($3)`,
    params,
  );
}

async function endRows(tx: Sql, jobId: string, ending: 'cancelled' | 'expired'): Promise<void> {
  const ended = await tx.query(`UPDATE job_row SET state = $2 WHERE job_id = $1 AND state = 'pending' RETURNING 1`, [jobId, ending]);
  if (ended.length > 0) await tx.query('UPDATE job SET rows_ended = rows_ended + $2 WHERE id = $1', [jobId, ended.length]);
}

interface ResultRecord {
  readonly row_no: number;
  readonly custom_id: string;
  readonly input_offset: string;
  readonly input_length: number;
  readonly state: ResultRow['state'];
  readonly error_code: string | null;
  readonly error_message: string | null;
  readonly task_id: string | null;
  readonly epoch: number | null;
  readonly result_offset: string | null;
  readonly result_length: number | null;
  readonly model_digest: string | null;
  readonly engine_class: string | null;
}

export async function results(sql: Sql, jobId: string, fromRow: number, limit: number): Promise<readonly ResultRow[]> {
  const rows = await sql.query<ResultRecord>(
    `SELECT r.row_no, r.custom_id, r.input_offset, r.input_length, r.state, r.error_code, r.error_message,
       r.task_id, r.epoch, r.result_offset, r.result_length, l.model_digest, l.engine_class
     FROM job_row r LEFT JOIN lease l ON l.task_id = r.task_id AND l.epoch = r.epoch
     WHERE r.job_id = $1 AND r.row_no >= $2 ORDER BY r.row_no LIMIT $3`,
    [jobId, fromRow, limit],
  );
  return rows.map((row) => ({
    rowNo: row.row_no,
    customId: row.custom_id,
    inputOffset: Number(row.input_offset),
    inputLength: row.input_length,
    state: row.state,
    errorCode: row.error_code,
    errorMessage: row.error_message,
    result: resultPlace(row),
  }));
}

function resultPlace(row: ResultRecord): ResultRow['result'] {
  const { task_id: task, epoch, result_offset: offset, result_length: length } = row;
  if (task === null || epoch === null || offset === null || length === null) return null;
  return { task, epoch, offset: Number(offset), length, digest: row.model_digest ?? '', engineClass: row.engine_class ?? '' };
}

/** Files, the job's end and the release of its hold in one transaction; a job that is over is left alone. */
export async function finish(database: Database, jobId: string, files: { readonly output: OutputFile | null; readonly errors: OutputFile | null }): Promise<boolean> {
  return database.transaction(
    async (tx) => {
      const job = await lockWaiting(tx, jobId);
      if (job === null) return false;
      for (const file of [files.output, files.errors]) if (file !== null) await insertOutput(tx, job.org_id, file);
      const state = await endState(tx, job);
      await tx.query(
        `UPDATE job SET state = $2, output_file_id = $3, error_file_id = $4,
           finalizing_at = CASE WHEN $2 = 'cancelled' THEN finalizing_at ELSE coalesce(finalizing_at, clock_timestamp()) END,
           completed_at = CASE WHEN $2 = 'completed' THEN clock_timestamp() ELSE completed_at END,
           expired_at = CASE WHEN $2 = 'expired' THEN coalesce(expired_at, clock_timestamp()) ELSE expired_at END,
           cancelled_at = CASE WHEN $2 = 'cancelled' THEN coalesce(cancelled_at, clock_timestamp()) ELSE cancelled_at END
         WHERE id = $1`,
        [jobId, state, files.output?.id ?? null, files.errors?.id ?? null],
      );
      await releaseHolds(tx, [jobId]);
      return true;
    },
    { durable: true },
  );
}

/** A batch whose rows all have their answer (a failure is one) is completed. */
async function endState(tx: Sql, job: JobRecord): Promise<JobState> {
  // It may have come to `finalizing` by way of `cancelling`, when the last verdict arrived.
  if (job.cancelling_at !== null || job.state === 'cancelled') return 'cancelled';
  if (job.state === 'expired') return 'expired';
  const [ended] = await tx.query<{ state: 'expired' | 'cancelled' }>(
    `SELECT state FROM job_row WHERE job_id = $1 AND state IN ('expired', 'cancelled') ORDER BY state DESC LIMIT 1`,
    [job.id],
  );
  return ended?.state ?? 'completed';
}

async function insertOutput(tx: Sql, orgId: string, file: OutputFile): Promise<void> {
  await tx.query(
    `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256, expires_at)
     VALUES ($1, $2, 'batch_output', $3, $4, $5, clock_timestamp() + interval '${RETENTION}')
     ON CONFLICT (id) DO NOTHING`,
    [file.id, orgId, file.filename, file.bytes, file.sha256],
  );
}
