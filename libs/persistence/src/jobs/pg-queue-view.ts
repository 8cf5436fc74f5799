import { PRIORITY_STEP_MS, type Backlog, type PastFinish } from '@freehold/domain';
import { QueueView, type Turn } from '@freehold/market';
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

  async backlog(model: string, orgId: string, turn: Turn): Promise<Backlog> {
    const isNew = !('jobId' in turn);
    const [row] = await this.#database.query<{ rows: number; own_rows: number; rows_ahead: number }>(
      `WITH turn AS (
         SELECT coalesce((SELECT ${KEY} FROM job WHERE id = $3),
           2 * extract(epoch FROM clock_timestamp()) + $4::float8 / 1000 - $5::int * ${PRIORITY_STEP_S}) AS key
       ), open AS (
         SELECT job.id, job.org_id, ${KEY} AS key, CASE
             WHEN job.state = 'validating' THEN greatest(1, coalesce(file.bytes, 0) / ${ROW_BYTES_ASSUMED})
             ELSE row_count - rows_succeeded - rows_failed - rows_ended END AS rows
         FROM job LEFT JOIN file ON file.id = job.input_file_id
         WHERE job.state IN ('validating', 'in_progress') AND job.kind = 'batch' AND (job.model = $1 OR job.model IS NULL)
           AND job.id IS DISTINCT FROM $3
       )
       SELECT coalesce(sum(rows), 0)::float8 AS rows, coalesce(sum(rows) FILTER (WHERE org_id = $2), 0)::float8 AS own_rows,
         coalesce(sum(rows) FILTER (WHERE open.key <= turn.key), 0)::float8 AS rows_ahead
       FROM open, turn`,
      [model, orgId, isNew ? null : turn.jobId, isNew ? turn.deadlineInMs : null, isNew ? turn.priority : null],
    );
    return { rows: row?.rows ?? 0, ownRows: row?.own_rows ?? 0, rowsAhead: row?.rows_ahead ?? 0 };
  }

  async pastFinishes(model: string, limit: number): Promise<readonly PastFinish[]> {
    const rows = await this.#database.query<{ expected_s: number; took_s: number }>(
      `SELECT expected_s, extract(epoch FROM finalizing_at - in_progress_at)::float8 AS took_s FROM job
       WHERE model = $1 AND state = 'completed' AND expected_s IS NOT NULL AND finalizing_at IS NOT NULL
       ORDER BY completed_at DESC LIMIT $2`,
      [model, limit],
    );
    return rows.map((row) => ({ expectedS: row.expected_s, tookS: row.took_s }));
  }

  async expect(jobId: string, seconds: number): Promise<void> {
    await this.#database.query(
      `UPDATE job SET expected_s = $2 WHERE id = $1 AND state = 'in_progress' AND expected_s IS NULL`,
      [jobId, seconds],
    );
  }
}
