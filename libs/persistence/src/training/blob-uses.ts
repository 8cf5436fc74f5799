import type { Database, Sql } from '../database.ts';

/** Users of objects hold it shared, whoever removes objects alone: it stands between looking and removing. */
const BLOBS_LOCK = 7_316_006;

/** One statement, because every checkpoint that comes waits for it: the lock is had before the first row is written. */
export async function useBlobs(sql: Sql, jobId: string, sha256s: readonly string[]): Promise<void> {
  await sql.query(
    `WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($1))
     INSERT INTO blob_use (sha256, job_id) SELECT sha256, $2 FROM held, unnest($3::text[]) AS sha256
     ON CONFLICT (sha256, job_id) DO NOTHING`,
    [BLOBS_LOCK, jobId, sha256s],
  );
}

/** Whether a job is over since so long, and nothing of its leases is evidence any more. */
const isPast = (job: string): string => `(
  ${job}.state IN ('completed', 'failed', 'expired', 'cancelled')
  AND greatest(${job}.completed_at, ${job}.failed_at, ${job}.expired_at, ${job}.cancelled_at) < clock_timestamp() - $1 * interval '1 millisecond'
  AND NOT EXISTS (
    SELECT 1 FROM task JOIN lease ON lease.task_id = task.id WHERE task.job_id = ${job}.id AND lease.swept_at IS NULL))`;

/**
 * The object goes before its rows: after a crash in between it is removed again. The lock is held while a hundred files are
 * unlinked, so that nobody finds an object present that is about to go.
 */
export async function sweepBlobs(
  database: Database,
  { olderThanMs, limit }: { readonly olderThanMs: number; readonly limit: number },
  remove: (sha256: string) => Promise<void>,
): Promise<number> {
  return database.transaction(async (tx) => {
    await tx.query('SELECT pg_advisory_xact_lock($1)', [BLOBS_LOCK]);
    const due = await tx.query<{ sha256: string }>(
      `SELECT DISTINCT past.sha256 FROM blob_use past JOIN job ON job.id = past.job_id AND ${isPast('job')}
       WHERE NOT EXISTS (
           SELECT 1 FROM blob_use other JOIN job user_job ON user_job.id = other.job_id
           WHERE other.sha256 = past.sha256 AND NOT ${isPast('user_job')})
         AND NOT EXISTS (SELECT 1 FROM job wearer WHERE wearer.adapter = past.sha256 AND NOT ${isPast('wearer')})
         AND NOT EXISTS (SELECT 1 FROM fine_tuned_model WHERE adapter = past.sha256 AND deleted_at IS NULL)
       LIMIT $2`,
      [olderThanMs, limit],
    );
    for (const { sha256 } of due) await remove(sha256);
    await tx.query('DELETE FROM blob_use WHERE sha256 = ANY ($1)', [due.map(({ sha256 }) => sha256)]);
    return due.length;
  });
}
