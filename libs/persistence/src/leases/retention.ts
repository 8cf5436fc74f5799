import type { SweepableLease } from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';
import type { Sql } from '../database.ts';

/**
 * Leases whose payloads nobody needs any more, oldest first. Their job ended so long ago, by the database's clock; no lease of
 * it is open; and every voucher of it is in an epoch that is final: until then it can be contested, and the rows are the
 * evidence. A dead book has no next final epoch: its vouchers are cashed as they are signed.
 */
export async function sweepable(sql: Sql, olderThanMs: number, limit: number): Promise<readonly SweepableLease[]> {
  return sql.query<SweepableLease>(
    `SELECT l.task_id AS task, l.epoch, l.job_id AS "jobId", l.road FROM lease l JOIN job ON job.id = l.job_id
     WHERE l.swept_at IS NULL AND l.ended_at < clock_timestamp() - $1 * interval '1 millisecond'
       AND job.state IN ('completed', 'failed', 'expired', 'cancelled')
       AND greatest(job.completed_at, job.failed_at, job.expired_at, job.cancelled_at) < clock_timestamp() - $1 * interval '1 millisecond'
       AND NOT EXISTS (
         SELECT 1 FROM task t JOIN lease open ON open.task_id = t.id WHERE t.job_id = l.job_id AND open.ended_at IS NULL)
       AND NOT EXISTS (
         SELECT 1 FROM receipt r JOIN voucher v ON v.task_id = r.task_id
         JOIN chain_epoch e ON e.book = v.book AND e.epoch = v.book_epoch AND e.state <> 'final'
         JOIN chain_book b ON b.book = v.book AND b.state = 'alive'
         WHERE r.job_id = l.job_id)
     ORDER BY l.ended_at LIMIT $2`,
    [olderThanMs, limit],
  );
}

export async function markSwept(sql: Sql, leases: readonly LeaseRef[]): Promise<void> {
  if (leases.length === 0) return;
  await sql.query(
    `UPDATE lease SET swept_at = clock_timestamp() FROM unnest($1::uuid[], $2::int[]) AS swept (task_id, epoch)
     WHERE lease.task_id = swept.task_id AND lease.epoch = swept.epoch AND swept_at IS NULL`,
    [leases.map(({ task }) => task), leases.map(({ epoch }) => epoch)],
  );
}
