import { unitsFromJson, type VerifyLevel } from '@freehold/domain';
import type { PastJob } from '@freehold/market';
import { NODE_NEEDS, nodeNeedsOf } from '@freehold/protocol';
import type { Sql } from '../database.ts';

interface PastRow {
  readonly id: string;
  readonly endpoint: string;
  readonly model: string;
  readonly adapter: string | null;
  readonly region: string | null;
  readonly asks: Record<string, string> | null;
  readonly pool_id: string | null;
  readonly verify: VerifyLevel;
  readonly rate_caps: Record<string, string>;
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
    `SELECT job.id, endpoint, job.model, adapter, region, pool_id, verify, rate_caps,
       CASE WHEN metadata ?| ARRAY['${NODE_NEEDS.join("','")}'] THEN metadata END AS asks,
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
    job: {
      jobId: row.id,
      kind: 'batch',
      endpoint: row.endpoint,
      model: row.model,
      wearsAdapter: row.adapter !== null,
      region: row.region,
      ...(row.asks === null ? {} : { needs: nodeNeedsOf(row.asks) }),
      poolId: row.pool_id,
      verify: row.verify,
      rateCaps: unitsFromJson(row.rate_caps),
      deadlineInMs: row.window_ms,
    },
    isOwn: row.is_own,
    paid: (row.paid ?? []).map(unitsFromJson),
  }));
}
