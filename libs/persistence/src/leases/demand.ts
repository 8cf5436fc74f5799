import type { OpenDemand } from '@freehold/market';
import type { Sql } from '../database.ts';
import { jobWish, jobWishOf, type JobWishRow } from './job-wish.ts';

interface DemandRow extends JobWishRow {
  readonly org_id: string;
  readonly kind: OpenDemand['kind'];
  readonly prompt_blocks: readonly string[];
  readonly priority: number;
  readonly deadline_in_ms: number;
  readonly age_ms: number;
  readonly next_row: number;
  readonly row_count: number;
  /** Null once its first rows are leased. */
  readonly gang: number | null;
  readonly queued: OpenDemand['queued'] | null;
}

/** Jobs whose next rows may be leased now. */
const IS_OPEN = `state = 'in_progress' AND kind IN ('batch', 'fine-tune') AND model IS NOT NULL AND deadline > clock_timestamp()
  AND (next_row < row_count OR EXISTS (SELECT 1 FROM task WHERE task.job_id = job.id AND task.state = 'queued'))
  -- Segments stand on the one before: the next are placed when all before them are accepted.
  AND (kind <> 'fine-tune' OR (paused_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM task WHERE task.job_id = job.id AND task.state IN ('leased', 'running', 'delivered'))))`;

/** What is to be known of jobs open; $1: the most tasks of each that came back. */
const READ = `
SELECT ${jobWish('open')}, org_id, kind, prompt_blocks, priority, next_row, row_count,
  CASE WHEN next_row = 0 AND gang IS NOT NULL AND row_count > 1 THEN least(gang, row_count) END AS gang,
  (extract(epoch FROM deadline - clock_timestamp()) * 1000)::float8 AS deadline_in_ms,
  (extract(epoch FROM clock_timestamp() - created_at) * 1000)::float8 AS age_ms,
  back.queued
FROM open
LEFT JOIN LATERAL (
  SELECT json_agg(json_build_object('taskId', id, 'epoch', epoch, 'rowFrom', row_from, 'rowTo', row_to,
    'attempts', attempts, 'lastNode', last_node,
    'waitedMs', round(extract(epoch FROM clock_timestamp() - queued_at) * 1000)) ORDER BY row_from) AS queued
  FROM (SELECT * FROM task WHERE task.job_id = open.id AND task.state = 'queued' ORDER BY row_from LIMIT $1) AS task
) AS back ON true`;

/**
 * Jobs with rows that wait for a slot. Orgs take turns (everybody's oldest job, then everybody's second …), so that one org
 * with many jobs never fills the snapshot.
 */
export async function demand(sql: Sql, limitJobs: number, limitQueuedPerJob: number): Promise<readonly OpenDemand[]> {
  const rows = await sql.query<DemandRow>(
    `WITH open AS (
       SELECT job.*, row_number() OVER (PARTITION BY org_id ORDER BY created_at, id) AS turn FROM job WHERE ${IS_OPEN}
       ORDER BY turn, created_at, id LIMIT $2
     ) ${READ} ORDER BY turn, created_at, open.id`,
    [limitQueuedPerJob, limitJobs],
  );
  return rows.map(openDemand);
}

export async function demandOf(
  sql: Sql,
  jobIds: readonly string[],
  limitQueuedPerJob: number,
): Promise<readonly OpenDemand[]> {
  const rows = await sql.query<DemandRow>(
    `WITH open AS (SELECT * FROM job WHERE id = ANY($2) AND ${IS_OPEN}) ${READ} ORDER BY open.id`,
    [limitQueuedPerJob, jobIds],
  );
  return rows.map(openDemand);
}

export async function demandPage(
  sql: Sql,
  after: string | null,
  limitJobs: number,
  limitQueuedPerJob: number,
): Promise<readonly OpenDemand[]> {
  const rows = await sql.query<DemandRow>(
    `WITH open AS (
       SELECT * FROM job WHERE ($3::text IS NULL OR id > $3) AND ${IS_OPEN} ORDER BY id LIMIT $2
     ) ${READ} ORDER BY open.id`,
    [limitQueuedPerJob, limitJobs, after],
  );
  return rows.map(openDemand);
}

function openDemand(row: DemandRow): OpenDemand {
  return {
    ...jobWishOf(row),
    orgId: row.org_id,
    kind: row.kind,
    ...(row.prompt_blocks.length === 0 ? {} : { promptBlocks: row.prompt_blocks }),
    priority: row.priority,
    deadlineInMs: row.deadline_in_ms,
    ageMs: row.age_ms,
    nextRow: row.next_row,
    rowCount: row.row_count,
    ...(row.gang === null ? {} : { gang: row.gang }),
    queued: row.queued ?? [],
  };
}
