import type { OutputFile, ResultRow } from '@freehold/market';
import type { Database, Sql } from '../database.ts';
import { releaseHolds } from '../ledger/ledger.ts';
import { inBlocks } from './row-blocks.ts';

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
     WHERE r.job_id = $1 AND ${inBlocks('$2::int', '$2::int + $3::int')} AND r.row_no >= $2 ORDER BY r.row_no LIMIT $3`,
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

/**
 * The files, and the job's end: a batch whose rows all have their answer (a failure is one) is completed. $2 to $5 are its files, $6
 * and $7 say which of them is which.
 */
const endOf = (only: string): string => `
WITH ending AS MATERIALIZED (
  SELECT id, org_id, CASE WHEN cancelling_at IS NOT NULL THEN 'cancelled'
    WHEN EXISTS (SELECT 1 FROM row_end WHERE row_end.job_id = job.id AND row_end.state = 'expired') THEN 'expired'
    ELSE 'completed' END AS state
  FROM job WHERE id = $1 AND state = 'finalizing' ${only} FOR UPDATE OF job
), written AS (
  INSERT INTO file (id, org_id, purpose, filename, bytes, sha256, expires_at)
  SELECT output.id, ending.org_id, 'batch_output', output.filename, output.bytes, output.sha256,
    clock_timestamp() + interval '${RETENTION}'
  FROM ending, unnest($2::text[], $3::text[], $4::bigint[], $5::bytea[]) AS output (id, filename, bytes, sha256)
  ON CONFLICT (id) DO NOTHING
)
UPDATE job SET state = ending.state, output_file_id = $6, error_file_id = $7,
  completed_at = CASE WHEN ending.state = 'completed' THEN clock_timestamp() END,
  expired_at = CASE WHEN ending.state = 'expired' THEN clock_timestamp() END,
  cancelled_at = CASE WHEN ending.state = 'cancelled' THEN clock_timestamp() END
FROM ending WHERE job.id = ending.id
RETURNING set_config('synchronous_commit', 'on', true)`;

const END = endOf('');
/** A hold only shrinks once its job is finalizing: where nothing is left of it there is nothing to release. */
const END_WITHOUT_HOLD = endOf(
  `AND NOT EXISTS (SELECT 1 FROM account WHERE account.kind = 'hold' AND account.owner = job.id AND account.balance > 0)`,
);

/** Files, the job's end and the release of its hold in one commit; a job that is over is left alone. */
export async function finish(
  database: Database,
  jobId: string,
  { output, errors }: { readonly output: OutputFile | null; readonly errors: OutputFile | null },
): Promise<boolean> {
  const files = [output, errors].filter((file) => file !== null);
  const params = [
    jobId,
    files.map(({ id }) => id),
    files.map(({ filename }) => filename),
    files.map(({ bytes }) => bytes),
    files.map(({ sha256 }) => Buffer.from(sha256)),
    output?.id ?? null,
    errors?.id ?? null,
  ];
  if ((await database.query(END_WITHOUT_HOLD, params)).length > 0) return true;
  return database.transaction(
    async (tx) => {
      if ((await tx.query(END, params)).length === 0) return false;
      await releaseHolds(tx, [jobId]);
      return true;
    },
    { durable: true },
  );
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
