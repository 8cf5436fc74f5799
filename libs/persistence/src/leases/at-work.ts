import type { RowsAtWork } from '@freehold/market';
import type { Sql } from '../database.ts';

/** Leases that run, and what of their rows is not signed for. */
export async function atWork(sql: Sql, jobId: string): Promise<RowsAtWork | null> {
  const [found] = await sql.query<{ rows: number; nodes: number; quiet_ms: number; left_ms: number | null }>(
    `SELECT sum(rows)::int AS rows, count(DISTINCT node_id)::int AS nodes, max(quiet_ms) AS quiet_ms,
       (array_agg(left_ms ORDER BY quiet_ms DESC))[1] AS left_ms
     FROM (
       SELECT l.node_id, t.row_to - t.row_from - l.checkpoint_rows AS rows,
         (extract(epoch FROM clock_timestamp() - l.progressed_at) * 1000)::float8 AS quiet_ms,
         (extract(epoch FROM l.yield_by - clock_timestamp()) * 1000)::float8 AS left_ms
       FROM task t JOIN lease l ON l.task_id = t.id AND l.epoch = t.epoch
       WHERE t.job_id = $1 AND t.state IN ('leased', 'running')
     ) AS held HAVING count(*) > 0`,
    [jobId],
  );
  if (found === undefined) return null;
  const { rows, nodes, quiet_ms: quietMs, left_ms: leftMs } = found;
  return {
    rows,
    nodes,
    slowest: { quietMs: Math.max(0, quietMs), leftMs: leftMs === null ? null : Math.max(0, leftMs) },
  };
}
