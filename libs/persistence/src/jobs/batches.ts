import { unitsToJson, type Amount, type Rates } from '@freehold/domain';
import type { BatchFault, JobView, NewBatch, NewRow, NoMoney, Once, RequestIdentity, Started } from '@freehold/market';
import { claimRequest } from '../accounts/request-claims.ts';
import { reserve } from '../accounts/reserve.ts';
import type { Database, Sql } from '../database.ts';
import { fileWork } from '../outbox.ts';
import { JOB_COLUMNS, jobView, type JobRecord } from './job-row.ts';

/** The job, its message and the request's identity commit together: an accepted batch is not lost, and not taken twice. */
export async function submitBatch(
  database: Database,
  batch: NewBatch,
  identity: RequestIdentity | null,
): Promise<Once<JobView>> {
  return database.transaction(
    async (tx) => {
      const claim = await claimRequest(tx, batch.orgId, identity, batch.id);
      if (claim.outcome === 'key-reused') return claim;
      if (claim.outcome === 'repeated') {
        const [earlier] = await tx.query<JobRecord>(`SELECT ${JOB_COLUMNS} FROM job WHERE id = $1 AND org_id = $2`, [
          claim.subject,
          batch.orgId,
        ]);
        return earlier === undefined ? { outcome: 'key-reused' } : { outcome: 'repeated', value: jobView(earlier) };
      }
      const [made] = await tx.query<JobRecord>(
        `INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, input_file_id, completion_window, metadata, verify, region, trust, deadline)
         SELECT $1, org.id, $3, 'batch', 'validating', $4, $5, $6, $7, $8, $9, org.trust, clock_timestamp() + $10 * interval '1 millisecond'
         FROM org WHERE org.id = $2
         RETURNING ${JOB_COLUMNS}`,
        [
          batch.id,
          batch.orgId,
          batch.keyId,
          batch.endpoint,
          batch.inputFileId,
          batch.completionWindow,
          JSON.stringify(batch.metadata),
          batch.verify,
          batch.region,
          batch.deadlineInMs,
        ],
      );
      if (made === undefined) throw new Error(`organisation ${batch.orgId} is not there`);
      await fileWork(tx, [{ topic: 'validate', ids: { job: batch.id } }]);
      return { outcome: 'made', value: jobView(made) };
    },
    { durable: true },
  );
}

/** Rows follow from the file alone, so a second validation inserts nothing new. The lock keeps them from a job that is failing. */
export async function addRows(database: Database, jobId: string, rows: readonly NewRow[]): Promise<boolean> {
  return database.transaction(async (tx) => {
    const [job] = await tx.query(`SELECT 1 FROM job WHERE id = $1 AND state = 'validating' FOR SHARE`, [jobId]);
    if (job === undefined) return false;
    await tx.query(
      `INSERT INTO job_row (job_id, row_no, custom_id, input_offset, input_length)
       SELECT $1, row_no, custom_id, input_offset, input_length
       FROM unnest($2::int[], $3::text[], $4::bigint[], $5::int[]) AS line (row_no, custom_id, input_offset, input_length)
       ON CONFLICT DO NOTHING`,
      [
        jobId,
        rows.map((r) => r.rowNo),
        rows.map((r) => r.customId),
        rows.map((r) => r.offset),
        rows.map((r) => r.length),
      ],
    );
    return true;
  });
}

export interface StartPlan {
  readonly model: string;
  readonly tuned: JobView['tuned'];
  readonly rowCount: number;
  readonly cap: Amount;
  readonly rateCaps: Rates;
}

export async function startBatch(database: Database, jobId: string, plan: StartPlan): Promise<Started> {
  return database.transaction(
    async (tx) => {
      const job = await lockValidating(tx, jobId, plan.rowCount);
      if (job === null) return { started: false, why: 'moved-by-another' };
      const refused: NoMoney | null = await reserve(tx, {
        orgId: job.org_id,
        keyId: job.api_key_id,
        jobId,
        amount: plan.cap,
      });
      if (refused !== null) return { started: false, ...refused };
      await tx.query(
        `UPDATE job SET state = 'in_progress', model = $2, row_count = $3, cap = $4, rate_caps = $5, in_progress_at = clock_timestamp(),
           tuned_model = $6, adapter = $7
         WHERE id = $1`,
        [
          jobId,
          plan.model,
          plan.rowCount,
          String(plan.cap),
          JSON.stringify(unitsToJson(plan.rateCaps)),
          plan.tuned?.name ?? null,
          plan.tuned?.adapter ?? null,
        ],
      );
      await fileWork(tx, [{ topic: 'place', ids: { job: jobId } }]);
      return { started: true };
    },
    { durable: true },
  );
}

async function lockValidating(
  tx: Sql,
  jobId: string,
  rowCount: number,
): Promise<{ org_id: string; api_key_id: string | null } | null> {
  const [job] = await tx.query<{ org_id: string; api_key_id: string | null }>(
    `SELECT org_id, api_key_id FROM job WHERE id = $1 AND state = 'validating' FOR UPDATE`,
    [jobId],
  );
  if (job === undefined) return null;
  const [rows] = await tx.query<{ count: string }>('SELECT count(*) AS count FROM job_row WHERE job_id = $1', [jobId]);
  if (Number(rows?.count) !== rowCount)
    throw new Error(`batch ${jobId} has ${rows?.count ?? 'no'} rows stored where its file has ${rowCount}`);
  return job;
}

export async function failBatch(database: Database, jobId: string, faults: readonly BatchFault[]): Promise<boolean> {
  return database.transaction(async (tx) => {
    const moved = await tx.query(
      `UPDATE job SET state = 'failed', failed_at = clock_timestamp(), errors = $2 WHERE id = $1 AND state = 'validating' RETURNING 1`,
      [jobId, JSON.stringify(faults)],
    );
    if (moved.length === 0) return false;
    await tx.query('DELETE FROM job_row WHERE job_id = $1', [jobId]);
    return true;
  });
}

export async function cancelJob(
  database: Database,
  orgId: string,
  jobId: string,
  kind: 'batch' | 'fine-tune',
): Promise<{ cancelled: boolean; job: JobView } | null> {
  return database.transaction(
    async (tx) => {
      const [row] = await tx.query<JobRecord>(
        `SELECT ${JOB_COLUMNS} FROM job WHERE id = $1 AND org_id = $2 AND kind = $3 FOR UPDATE`,
        [jobId, orgId, kind],
      );
      if (row === undefined) return null;
      if (row.state !== 'validating' && row.state !== 'in_progress') return { cancelled: false, job: jobView(row) };
      const isEarly = row.state === 'validating';
      const [moved] = await tx.query<JobRecord>(
        `UPDATE job SET state = $2, cancelling_at = clock_timestamp(), cancelled_at = CASE WHEN $2 = 'cancelled' THEN clock_timestamp() END
         WHERE id = $1 RETURNING ${JOB_COLUMNS}`,
        [jobId, isEarly ? 'cancelled' : 'cancelling'],
      );
      // What runs is ended by the lease clock's next tick, which also files the writing of the files.
      if (isEarly) await tx.query('DELETE FROM job_row WHERE job_id = $1', [jobId]);
      return { cancelled: true, job: jobView(moved ?? row) };
    },
    { durable: true },
  );
}
