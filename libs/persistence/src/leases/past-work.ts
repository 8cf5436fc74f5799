import { unitsFromJson } from '@freehold/domain';
import type { PastJob } from '@freehold/market';
import type { Sql } from '../database.ts';
import { jobWish, jobWishOf, type JobWishRow } from './job-wish.ts';

interface PastRow extends JobWishRow {
  readonly window_ms: number;
  readonly is_own: boolean;
  readonly paid: readonly Record<string, string>[] | null;
}

/** Tasks of one job that are looked at for what was paid: prices change, but not by much within a job. */
const TASKS_MAX = 256;

/** Batches that were over lately, and who worked on them: who was refused or lost its lease worked on nothing. */
export async function pastWork(
  sql: Sql,
  nodeId: string,
  models: readonly string[],
  withinMs: number,
  limitJobs: number,
): Promise<readonly PastJob[]> {
  const rows = await sql.query<PastRow>(
    `SELECT ${jobWish('job')},
       (extract(epoch FROM deadline - created_at) * 1000)::float8 AS window_ms, work.*,
       EXISTS (SELECT 1 FROM receipt WHERE receipt.job_id = job.id AND receipt.node_id = $1) AS is_own
     FROM (
       SELECT * FROM job WHERE kind = 'batch' AND state IN ('completed', 'expired') AND model = ANY($2)
         AND finalizing_at > clock_timestamp() - $3::float8 * interval '1 millisecond'
       ORDER BY finalizing_at DESC LIMIT $4
     ) AS job
     CROSS JOIN LATERAL (
       SELECT count(*)::int AS leases, json_agg(DISTINCT lease.rates) AS paid
       FROM (SELECT id FROM task WHERE task.job_id = job.id ORDER BY row_from LIMIT ${TASKS_MAX}) AS part
       JOIN lease ON lease.task_id = part.id AND lease.outcome = 'accepted'
     ) AS work
     WHERE work.leases > 0
     ORDER BY finalizing_at DESC`,
    [nodeId, models, withinMs, limitJobs],
  );
  return rows.map((row) => ({
    job: { ...jobWishOf(row), kind: 'batch', deadlineInMs: row.window_ms },
    isOwn: row.is_own,
    paid: (row.paid ?? []).map(unitsFromJson),
  }));
}
