import type { JobState } from '@freehold/domain';
import type { OutputFile, ResultRow } from '@freehold/market';
import type { Database, Sql } from '../database.ts';
import { releaseHolds } from '../ledger/ledger.ts';
import { JOB_COLUMNS, type JobRecord } from './job-row.ts';

/** Inputs and outputs are kept for thirty days, as the terms say. */
const RETENTION = '30 days';
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
  readonly lease_ended_at: Date | null;
}

export async function results(sql: Sql, jobId: string, fromRow: number, limit: number): Promise<readonly ResultRow[]> {
  const rows = await sql.query<ResultRecord>(
    `SELECT r.row_no, r.custom_id, r.input_offset, r.input_length, r.state, r.error_code, r.error_message,
       r.task_id, r.epoch, r.result_offset, r.result_length, l.model_digest, l.engine_class, l.ended_at AS lease_ended_at
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
  return {
    task,
    epoch,
    offset: Number(offset),
    length,
    digest: row.model_digest ?? '',
    engineClass: row.engine_class ?? '',
    endedAtMs: row.lease_ended_at?.getTime() ?? 0,
  };
}

/** Files, the job's end and the release of its hold in one transaction; a job that is over is left alone. */
export async function finish(
  database: Database,
  jobId: string,
  files: { readonly output: OutputFile | null; readonly errors: OutputFile | null },
): Promise<boolean> {
  return database.transaction(
    async (tx) => {
      const [job] = await tx.query<JobRecord>(
        `SELECT ${JOB_COLUMNS} FROM job WHERE id = $1 AND state = 'finalizing' FOR UPDATE`,
        [jobId],
      );
      if (job === undefined) return false;
      for (const file of [files.output, files.errors]) if (file !== null) await insertOutput(tx, job.org_id, file);
      const state = await endState(tx, job);
      await tx.query(
        `UPDATE job SET state = $2, output_file_id = $3, error_file_id = $4,
           completed_at = CASE WHEN $2 = 'completed' THEN clock_timestamp() END,
           expired_at = CASE WHEN $2 = 'expired' THEN clock_timestamp() END,
           cancelled_at = CASE WHEN $2 = 'cancelled' THEN clock_timestamp() END
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
  if (job.cancelling_at !== null) return 'cancelled';
  const expired = await tx.query(`SELECT 1 FROM job_row WHERE job_id = $1 AND state = 'expired' LIMIT 1`, [job.id]);
  return expired.length > 0 ? 'expired' : 'completed';
}

export async function insertOutput(
  tx: Sql,
  orgId: string,
  file: OutputFile,
  purpose: 'batch_output' | 'fine-tune-results' = 'batch_output',
): Promise<void> {
  await tx.query(
    `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256, expires_at)
     VALUES ($1, $2, $6, $3, $4, $5, clock_timestamp() + interval '${RETENTION}')
     ON CONFLICT (id) DO NOTHING`,
    [file.id, orgId, file.filename, file.bytes, file.sha256, purpose],
  );
}
