import type { Sql } from '../database.ts';

/** What happened to one node's work, read from the truth. Amounts are decimal strings. */
export interface NodeFacts {
  readonly nodeId: string;
  readonly rowsAccepted: number;
  readonly leases: number;
  readonly leasesLost: number;
  readonly leasesRejected: number;
  /** Distinct rows that an audit proved bad. */
  readonly badRows: number;
  /** Net of fee, over all its accepted leases. */
  readonly earned: string;
}

export async function nodeFacts(sql: Sql, nodeId: string): Promise<NodeFacts> {
  const [row] = await sql.query<Record<string, string>>(
    `SELECT
       (SELECT coalesce(sum(r.rows), 0) FROM receipt r WHERE r.node_id = $1) AS rows_accepted,
       (SELECT count(*) FROM lease WHERE node_id = $1) AS leases,
       (SELECT count(*) FROM lease WHERE node_id = $1 AND outcome = 'lost') AS leases_lost,
       (SELECT count(*) FROM lease WHERE node_id = $1 AND outcome = 'rejected') AS leases_rejected,
       (SELECT count(DISTINCT (a.task_id, a.epoch, a.row_no)) FROM audit a JOIN lease l USING (task_id, epoch)
         WHERE l.node_id = $1 AND a.verdict = 'bad') AS bad_rows,
       (SELECT coalesce(sum(r.charge - r.fee), 0) FROM receipt r WHERE r.node_id = $1) AS earned`,
    [nodeId],
  );
  return {
    nodeId,
    rowsAccepted: Number(row?.['rows_accepted'] ?? 0),
    leases: Number(row?.['leases'] ?? 0),
    leasesLost: Number(row?.['leases_lost'] ?? 0),
    leasesRejected: Number(row?.['leases_rejected'] ?? 0),
    badRows: Number(row?.['bad_rows'] ?? 0),
    earned: row?.['earned'] ?? '0',
  };
}

/** Of the rows of these tasks (a node died over them): those that have their answer all the same, from whomever. */
export async function rowsAnswered(sql: Sql, tasks: readonly string[]): Promise<number> {
  const [row] = await sql.query<{ rows: string }>(
    `SELECT count(DISTINCT (jr.job_id, jr.row_no)) AS rows
       FROM unnest($1::uuid[]) AS held (task_id)
       JOIN task t ON t.id = held.task_id
       JOIN row_end jr ON jr.job_id = t.job_id AND jr.row_no >= t.row_from AND jr.row_no < t.row_to
      WHERE jr.state = 'succeeded' AND jr.task_id IS NOT NULL`,
    [tasks],
  );
  return Number(row?.rows ?? 0);
}

/** Rows whose terminal record came from this node: by job, their numbers and names. */
export async function rowsDeliveredBy(
  sql: Sql,
  nodeId: string,
): Promise<readonly { readonly jobId: string; readonly customId: string }[]> {
  const rows = await sql.query<{ job_id: string; custom_id: string }>(
    `SELECT jr.job_id, jr.custom_id FROM job_row jr JOIN lease l ON l.task_id = jr.task_id AND l.epoch = jr.epoch
      WHERE l.node_id = $1 AND jr.state = 'succeeded' ORDER BY jr.job_id, jr.row_no`,
    [nodeId],
  );
  return rows.map((row) => ({ jobId: row.job_id, customId: row.custom_id }));
}

export interface AuditFacts {
  readonly rowsAccepted: number;
  readonly rowsAudited: number;
  /** What auditors were paid out of fees, decimal string. */
  readonly paid: string;
}

/** Over all accepted leases: how many rows were run again, and what those who did it earned. */
export async function auditFacts(sql: Sql): Promise<AuditFacts> {
  const [row] = await sql.query<{ rows: string; audited: string; paid: string }>(
    `SELECT coalesce(sum(rows), 0) AS rows, coalesce(sum(audited), 0) AS audited,
       (SELECT coalesce(sum(amount), 0) FROM audit_receipt WHERE paid_by IS NOT NULL) AS paid FROM receipt`,
  );
  return { rowsAccepted: Number(row?.rows ?? 0), rowsAudited: Number(row?.audited ?? 0), paid: row?.paid ?? '0' };
}

export interface JobMoney {
  readonly charged: string;
  readonly cap: string;
}

/** Charged and capped, over all jobs of all kinds. */
export async function jobMoney(sql: Sql): Promise<JobMoney> {
  const [row] = await sql.query<{ charged: string; cap: string }>(
    `SELECT coalesce(sum(charged), 0) AS charged, coalesce(sum(cap), 0) AS cap FROM job`,
  );
  return { charged: row?.charged ?? '0', cap: row?.cap ?? '0' };
}

/** Work that is neither final nor waiting for anybody: null when all is settled inside the market. */
export async function openWork(sql: Sql): Promise<{
  readonly jobs: number;
  /** The oldest of them. */
  readonly oldest: readonly string[];
  readonly tasks: number;
  readonly vouchersUnsigned: number;
}> {
  const [row] = await sql.query<{ jobs: string; oldest: readonly string[]; tasks: string; vouchers: string }>(
    `SELECT (SELECT count(*) FROM job WHERE state NOT IN ('completed', 'failed', 'expired', 'cancelled')) AS jobs,
            ARRAY(SELECT id FROM job WHERE state NOT IN ('completed', 'failed', 'expired', 'cancelled')
              ORDER BY created_at, id LIMIT 3) AS oldest,
            (SELECT count(*) FROM task WHERE state NOT IN ('accepted', 'failed', 'cancelled', 'expired')) AS tasks,
            (SELECT count(*) FROM voucher WHERE signature IS NULL) AS vouchers`,
  );
  return {
    jobs: Number(row?.jobs ?? 0),
    oldest: row?.oldest ?? [],
    tasks: Number(row?.tasks ?? 0),
    vouchersUnsigned: Number(row?.vouchers ?? 0),
  };
}
