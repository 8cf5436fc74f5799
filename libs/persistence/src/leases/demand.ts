import { unitsFromJson, type VerifyLevel } from '@freehold/domain';
import type { OpenDemand } from '@freehold/market';
import type { Sql } from '../database.ts';

interface DemandRow {
  readonly id: string;
  readonly org_id: string;
  readonly kind: OpenDemand['kind'];
  readonly model: string;
  readonly adapter: string | null;
  readonly region: string | null;
  readonly pool_id: string | null;
  readonly verify: VerifyLevel;
  readonly rate_caps: Record<string, string>;
  readonly deadline_in_ms: number;
  readonly age_ms: number;
  readonly next_row: number;
  readonly row_count: number;
  readonly queued: OpenDemand['queued'] | null;
}

/**
 * Jobs with rows that wait for a slot. Orgs take turns (everybody's oldest job, then everybody's second …), so that one org
 * with many jobs never fills the snapshot.
 */
export async function demand(sql: Sql, limitJobs: number, limitQueuedPerJob: number): Promise<readonly OpenDemand[]> {
  const rows = await sql.query<DemandRow>(
    `WITH open AS (
       SELECT job.*, row_number() OVER (PARTITION BY org_id ORDER BY created_at, id) AS turn
       FROM job
       WHERE state = 'in_progress' AND kind IN ('batch', 'fine-tune') AND model IS NOT NULL AND deadline > clock_timestamp()
         AND (next_row < row_count OR EXISTS (SELECT 1 FROM task WHERE task.job_id = job.id AND task.state = 'queued'))
         -- Segments stand on the one before: the next are placed when all before them are accepted.
         AND (kind <> 'fine-tune' OR (paused_at IS NULL AND NOT EXISTS (
           SELECT 1 FROM task WHERE task.job_id = job.id AND task.state IN ('leased', 'running', 'delivered'))))
       ORDER BY turn, created_at, id LIMIT $1
     )
     SELECT open.id, org_id, kind, model, adapter, region, pool_id, verify, rate_caps, next_row, row_count,
       (extract(epoch FROM deadline - clock_timestamp()) * 1000)::float8 AS deadline_in_ms,
       (extract(epoch FROM clock_timestamp() - created_at) * 1000)::float8 AS age_ms,
       back.queued
     FROM open
     LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object('taskId', id, 'epoch', epoch, 'rowFrom', row_from, 'rowTo', row_to,
         'attempts', attempts, 'lastNode', last_node,
         'waitedMs', round(extract(epoch FROM clock_timestamp() - queued_at) * 1000)) ORDER BY row_from) AS queued
       FROM (SELECT * FROM task WHERE task.job_id = open.id AND task.state = 'queued' ORDER BY row_from LIMIT $2) AS task
     ) AS back ON true
     ORDER BY turn, created_at, open.id`,
    [limitJobs, limitQueuedPerJob],
  );
  return rows.map((row) => ({
    jobId: row.id,
    orgId: row.org_id,
    kind: row.kind,
    model: row.model,
    wearsAdapter: row.adapter !== null,
    region: row.region,
    poolId: row.pool_id,
    verify: row.verify,
    rateCaps: unitsFromJson(row.rate_caps),
    deadlineInMs: row.deadline_in_ms,
    ageMs: row.age_ms,
    nextRow: row.next_row,
    rowCount: row.row_count,
    queued: row.queued ?? [],
  }));
}
