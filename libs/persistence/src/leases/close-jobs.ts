import type { Sql } from '../database.ts';
import { releaseHolds } from '../ledger/ledger.ts';
import { fileWork } from '../outbox.ts';

export interface RowFailure {
  readonly code: string;
  readonly message: string;
}

/**
 * Fails the rows of tasks that have just failed, and counts them on their jobs. The jobs' rows are locked by the caller.
 * A row that has its terminal record keeps it.
 */
export async function failRows(tx: Sql, taskIds: readonly string[], failure: RowFailure): Promise<void> {
  await tx.query(
    `WITH failed AS (
       INSERT INTO row_end (job_id, row_no, state, error_code, error_message)
       SELECT t.job_id, line.row_no, 'failed', $2, $3
       FROM task t, generate_series(t.row_from, t.row_to - 1) AS line (row_no)
       WHERE t.id = ANY($1::uuid[])
       ON CONFLICT DO NOTHING RETURNING job_id
     )
     UPDATE job SET rows_failed = rows_failed + tally.n
     FROM (SELECT job_id, count(*)::int AS n FROM failed GROUP BY job_id) AS tally WHERE job.id = tally.job_id`,
    [taskIds, failure.code, failure.message],
  );
}

/**
 * Closes those of the jobs that have a terminal record for every row and no task in flight. A batch goes to `finalizing`
 * and its files are written by whoever takes the message; a streamed job has no files, so it ends here and now and its
 * hold goes back. A cancelled batch has files too (of what was answered before); `cancelling_at` remembers what it was.
 *
 * @returns the jobs closed now.
 */
export async function closeJobs(tx: Sql, jobIds: readonly string[]): Promise<readonly string[]> {
  if (jobIds.length === 0) return [];
  const closed = await tx.query<{ id: string; state: string }>(
    `UPDATE job SET state = ending.state,
       finalizing_at = clock_timestamp(),
       completed_at = CASE WHEN ending.state = 'completed' THEN clock_timestamp() END,
       failed_at = CASE WHEN ending.state = 'failed' THEN clock_timestamp() END,
       expired_at = CASE WHEN ending.state = 'expired' THEN clock_timestamp() END,
       cancelled_at = CASE WHEN ending.state = 'cancelled' THEN clock_timestamp() END
     FROM (
       SELECT id AS job_id, CASE
         WHEN kind NOT IN ('chat', 'embedding') THEN 'finalizing'
         WHEN rows_succeeded = row_count THEN 'completed'
         WHEN state = 'cancelling' THEN 'cancelled'
         WHEN rows_ended > 0 THEN 'expired'
         ELSE 'failed' END AS state
       FROM job WHERE id = ANY($1)
     ) AS ending
     WHERE job.id = ending.job_id AND job.state IN ('in_progress', 'cancelling')
       AND rows_succeeded + rows_failed + rows_ended = row_count
       AND NOT EXISTS (
         SELECT 1 FROM task WHERE task.job_id = job.id AND task.state IN ('queued', 'leased', 'running', 'delivered'))
     RETURNING job.id, job.state`,
    [jobIds],
  );
  const ended = closed.filter(({ state }) => state !== 'finalizing').map(({ id }) => id);
  const finalizing = closed.filter(({ state }) => state === 'finalizing');
  await releaseHolds(tx, ended);
  await fileWork(
    tx,
    finalizing.map(({ id }) => ({ topic: 'finalize', ids: { job: id } })),
  );
  return closed.map(({ id }) => id);
}

/** Locks jobs in one order, so that no two transactions wait in a circle. NO KEY: inserting tasks of the job goes on. */
export async function lockJobs(tx: Sql, jobIds: readonly string[]): Promise<void> {
  await tx.query('SELECT 1 FROM job WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE', [jobIds]);
}
