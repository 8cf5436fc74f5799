import { unitsFromJson } from '@freehold/domain';
import type { PastWorkFound } from '@freehold/market';
import type { Sql } from '../database.ts';
import { jobWish, jobWishOf, type JobWishRow } from './job-wish.ts';

interface PastRow extends JobWishRow {
  readonly window_ms: number;
  readonly is_own: boolean;
  readonly paid: readonly Record<string, string>[] | null;
  readonly refused: number;
  readonly refused_why: string | null;
  readonly lost: number;
  readonly lost_why: string | null;
}

/** Tasks of one job that are looked at for what was paid: prices change, but not by much within a job. */
const TASKS_MAX = 256;

/**
 * Batches that were over lately, and who worked on them: who was refused or lost its lease worked on nothing. What was leased before the
 * node came was nothing that it could have had.
 */
export async function pastWork(
  sql: Sql,
  nodeId: string,
  models: readonly string[],
  withinMs: number,
  limitJobs: number,
): Promise<PastWorkFound> {
  const [since] = await sql.query<{ came_at: Date | null; known_ms: number }>(
    `SELECT came_at, least($2, (extract(epoch FROM clock_timestamp() - came_at) * 1000)::float8) AS known_ms
     FROM (SELECT (SELECT first_seen_at FROM node WHERE id = $1) AS came_at) AS node`,
    [nodeId, withinMs],
  );
  if (since === undefined || since.came_at === null) return { withinMs: 0, jobs: [] };
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
       SELECT count(*) FILTER (WHERE outcome = 'accepted')::int AS leases,
         json_agg(DISTINCT lease.rates) FILTER (WHERE outcome = 'accepted') AS paid,
         count(*) FILTER (WHERE outcome = 'refused')::int AS refused,
         (array_agg(lease.why ORDER BY lease.ended_at DESC) FILTER (WHERE outcome = 'refused'))[1] AS refused_why,
         count(*) FILTER (WHERE outcome = 'lost')::int AS lost,
         (array_agg(lease.why ORDER BY lease.ended_at DESC) FILTER (WHERE outcome = 'lost'))[1] AS lost_why
       FROM (SELECT id FROM task WHERE task.job_id = job.id ORDER BY row_from LIMIT ${TASKS_MAX}) AS part
       JOIN lease ON lease.task_id = part.id AND lease.granted_at >= $5
         AND (lease.outcome = 'accepted' OR (lease.outcome IN ('refused', 'lost') AND lease.node_id = $1))
     ) AS work
     WHERE work.leases > 0
     ORDER BY finalizing_at DESC`,
    [nodeId, models, since.known_ms, limitJobs, since.came_at],
  );
  const jobs = rows.map((row) => ({
    job: { ...jobWishOf(row), kind: 'batch' as const, deadlineInMs: row.window_ms },
    isOwn: row.is_own,
    paid: (row.paid ?? []).map(unitsFromJson),
    refused: row.refused === 0 ? null : { leases: row.refused, why: row.refused_why ?? 'it did not say why' },
    takenBack: row.lost === 0 ? null : { leases: row.lost, why: row.lost_why ?? 'nobody wrote why' },
  }));
  return { withinMs: since.known_ms, jobs };
}
