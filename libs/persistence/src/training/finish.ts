import type { JobState } from '@freehold/domain';
import type { FineTuneResult } from '@freehold/market';
import type { Database } from '../database.ts';
import { insertOutput } from '../jobs/endings.ts';
import { JOB_COLUMNS, type JobRecord } from '../jobs/job-row.ts';
import { releaseHolds } from '../ledger/ledger.ts';
import { noteEvents } from './events.ts';

/** Model, files, the job's end and the release of its hold in one transaction; a job that is over is left alone. */
export async function finishFineTune(database: Database, jobId: string, result: FineTuneResult): Promise<boolean> {
  return database.transaction(
    async (tx) => {
      const [job] = await tx.query<JobRecord>(
        `SELECT ${JOB_COLUMNS} FROM job WHERE id = $1 AND kind = 'fine-tune' AND state = 'finalizing' FOR UPDATE`,
        [jobId],
      );
      if (job === undefined) return false;
      const isCancelled = job.cancelling_at !== null;
      const state: JobState = isCancelled ? 'cancelled' : result.model === null ? 'failed' : 'completed';
      for (const file of result.files) await insertOutput(tx, job.org_id, file, file.purpose);
      await tx.query('UPDATE fine_tune SET result_file_ids = $2 WHERE job_id = $1', [
        jobId,
        result.files.map(({ id }) => id),
      ]);
      if (state === 'completed' && result.model !== null)
        await tx.query(
          `INSERT INTO fine_tuned_model (name, org_id, job_id, base, adapter) VALUES ($1, $2, $3, $4, $5)`,
          [result.model.name, job.org_id, jobId, result.model.base, result.model.adapter],
        );
      await tx.query(
        `UPDATE job SET state = $2, errors = coalesce($3::jsonb, CASE WHEN $2 = 'cancelled' THEN errors END),
           completed_at = CASE WHEN $2 = 'completed' THEN clock_timestamp() END,
           failed_at = CASE WHEN $2 = 'failed' THEN clock_timestamp() END,
           cancelled_at = CASE WHEN $2 = 'cancelled' THEN clock_timestamp() END
         WHERE id = $1`,
        [jobId, state, state === 'failed' && result.fault !== null ? JSON.stringify([result.fault]) : null],
      );
      await releaseHolds(tx, [jobId]);
      await noteEvents(tx, jobId, [
        {
          key: 'ended',
          level: state === 'failed' ? 'error' : 'info',
          type: 'message',
          message: endMessage(state, result, job.errors?.[0]?.message),
        },
      ]);
      return true;
    },
    { durable: true },
  );
}

/** @param why Why it was cancelled, where it was not its requester who said so. */
function endMessage(state: JobState, { model, fault }: FineTuneResult, why: string | undefined): string {
  if (state === 'completed') return `The job has successfully completed: ${model?.name ?? ''}`;
  if (state === 'cancelled')
    return `The job was cancelled${why === undefined ? '' : ` (${why})`}. Accepted segments are paid for; the rest of the hold returns.`;
  return fault?.message ?? 'The job failed.';
}
