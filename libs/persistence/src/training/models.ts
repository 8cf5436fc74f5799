import type { FineTunedModel } from '@freehold/market';
import type { Database, Sql } from '../database.ts';

interface ModelRow {
  readonly name: string;
  readonly org_id: string;
  readonly job_id: string;
  readonly base: string;
  readonly adapter: string;
  readonly created_at: Date;
}

const COLUMNS = 'name, org_id, job_id, base, adapter, created_at';
/** More than one organisation trains in years. */
const MODELS_MAX = 10_000;

export async function modelOf(sql: Sql, orgId: string, name: string): Promise<FineTunedModel | null> {
  const [row] = await sql.query<ModelRow>(
    `SELECT ${COLUMNS} FROM fine_tuned_model WHERE name = $1 AND org_id = $2 AND deleted_at IS NULL`,
    [name, orgId],
  );
  return row === undefined ? null : model(row);
}

export async function modelsOf(sql: Sql, orgId: string): Promise<readonly FineTunedModel[]> {
  const rows = await sql.query<ModelRow>(
    `SELECT ${COLUMNS} FROM fine_tuned_model WHERE org_id = $1 AND deleted_at IS NULL ORDER BY created_at, name LIMIT ${MODELS_MAX}`,
    [orgId],
  );
  return rows.map(model);
}

export async function removeModel(
  database: Database,
  orgId: string,
  name: string,
): Promise<{ readonly orphan: string | null } | 'not-found'> {
  return database.transaction(async (tx) => {
    const [removed] = await tx.query<{ adapter: string }>(
      `UPDATE fine_tuned_model SET deleted_at = clock_timestamp()
       WHERE name = $1 AND org_id = $2 AND deleted_at IS NULL RETURNING adapter`,
      [name, orgId],
    );
    if (removed === undefined) return 'not-found';
    // Rows under way are answered by it, and an auditor runs an answer again that went out before it was judged: the sweep
    // takes it when they are history.
    const [other] = await tx.query(
      `SELECT 1 FROM fine_tuned_model WHERE adapter = $1 AND deleted_at IS NULL
       UNION ALL SELECT 1 FROM job WHERE adapter = $1 AND state NOT IN ('completed', 'failed', 'expired', 'cancelled')
       UNION ALL SELECT 1 FROM job JOIN task ON task.job_id = job.id
         WHERE job.adapter = $1 AND task.state NOT IN ('accepted', 'failed', 'expired', 'cancelled') LIMIT 1`,
      [removed.adapter],
    );
    return { orphan: other === undefined ? removed.adapter : null };
  });
}

function model(row: ModelRow): FineTunedModel {
  return {
    name: row.name,
    orgId: row.org_id,
    jobId: row.job_id,
    base: row.base,
    adapter: row.adapter,
    createdAtMs: row.created_at.getTime(),
  };
}
