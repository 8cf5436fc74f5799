import { PRIORITY_STEP_MS, type RegionBacklog } from '@freehold/domain';
import { QueueView, type PastBatch, type Turn } from '@freehold/market';
import type { Database } from '../database.ts';

/** A row of a chat batch is 150–400 bytes; a file is read within seconds, and then its rows are counted. */
const ROW_BYTES_ASSUMED = 256;
const PRIORITY_STEP_S = PRIORITY_STEP_MS / 1_000;

/** A job's turn: what is left to its deadline less what it has waited less its priority orders jobs as this does, at any time. */
const KEY = `extract(epoch FROM job.created_at) + extract(epoch FROM job.deadline) - job.priority * ${PRIORITY_STEP_S}`;

export class PgQueueView extends QueueView {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  async backlog(model: string, orgId: string, turn: Turn, usualRow: number | null): Promise<readonly RegionBacklog[]> {
    const isNew = !('jobId' in turn);
    return this.#database.query<RegionBacklog>(
      `WITH turn AS (
         SELECT coalesce((SELECT ${KEY} FROM job WHERE id = $3),
           2 * extract(epoch FROM clock_timestamp()) + $4::float8 / 1000 - $5::int * ${PRIORITY_STEP_S}) AS key
       ), open AS (
         SELECT job.id, job.org_id, job.region, ${KEY} AS key, job.counted::float8 / nullif(row_count, 0) / $6::float8 AS per_row, CASE
             WHEN job.state = 'validating' THEN greatest(1, coalesce(file.bytes, 0) / ${ROW_BYTES_ASSUMED})
             ELSE row_count - rows_succeeded - rows_failed - rows_ended END AS rows
         FROM job LEFT JOIN file ON file.id = job.input_file_id
         WHERE job.state IN ('validating', 'in_progress') AND job.kind = 'batch' AND (job.model = $1 OR job.model IS NULL)
           AND job.id IS DISTINCT FROM $3
       ), work AS (
         SELECT region, rows, rows * coalesce(nullif(per_row, 0), 1) AS work, org_id = $2 AS own, open.key <= turn.key AS ahead
         FROM open, turn
       )
       SELECT region, sum(rows)::float8 AS rows, sum(work)::float8 AS work,
         coalesce(sum(rows) FILTER (WHERE own), 0)::float8 AS "ownRows",
         coalesce(sum(work) FILTER (WHERE own), 0)::float8 AS "ownWork",
         coalesce(sum(rows) FILTER (WHERE ahead), 0)::float8 AS "rowsAhead",
         coalesce(sum(work) FILTER (WHERE ahead), 0)::float8 AS "workAhead"
       FROM work GROUP BY region`,
      [
        model,
        orgId,
        isNew ? null : turn.jobId,
        isNew ? turn.deadlineInMs : null,
        isNew ? turn.priority : null,
        usualRow,
      ],
    );
  }

  async pastBatches(model: string, limit: number): Promise<readonly PastBatch[]> {
    const rows = await this.#database.query<{
      rows: number;
      counted: number | null;
      cost: number;
      expected_s: number | null;
      took_s: number;
      has_ended: boolean;
    }>(
      `SELECT row_count AS rows, counted::float8 AS counted, charged::float8 AS cost, expected_s,
         extract(epoch FROM finalizing_at - in_progress_at)::float8 AS took_s, state = 'completed' AS has_ended
       FROM job
       WHERE model = $1 AND kind = 'batch' AND state IN ('completed', 'expired') AND finalizing_at IS NOT NULL AND in_progress_at IS NOT NULL
       ORDER BY finalizing_at DESC, id LIMIT $2`,
      [model, limit],
    );
    return rows.map(({ expected_s: expectedS, took_s: tookS, has_ended: hasEnded, ...row }) => ({
      ...row,
      expectedS,
      tookS,
      hasEnded,
    }));
  }

  async expect(jobId: string, seconds: number): Promise<void> {
    await this.#database.query(
      `UPDATE job SET expected_s = $2 WHERE id = $1 AND state = 'in_progress' AND expected_s IS NULL`,
      [jobId, seconds],
    );
  }
}
