import { unitsToJson } from '@freehold/domain';
import type { NewStream, StreamAnswer, StreamLease, StreamOpened } from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';
import { claimRequest } from '../accounts/request-claims.ts';
import { reserve } from '../accounts/reserve.ts';
import type { Database, Sql } from '../database.ts';
import { closeJobs, lockJobs } from '../leases/close-jobs.ts';
import { failQueued } from '../leases/give-back.ts';

const OPEN = `
WITH opened AS (
  INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, model, metadata, verify, region, trust, cap, rate_caps,
    row_count, next_row, deadline, in_progress_at)
  SELECT $1, org.id, $3, $4, 'in_progress', $5, $6, $7, $8, $9, org.trust, $10, $11, 1, 1,
    clock_timestamp() + 2 * $12 * interval '1 millisecond', clock_timestamp()
  FROM org WHERE org.id = $2
), line AS (
  INSERT INTO job_row (job_id, row_no, custom_id, input_offset, input_length) VALUES ($1, 0, $1, 0, $13)
), cut AS (
  INSERT INTO task (id, job_id, org_id, row_from, row_to, state, epoch) VALUES ($14, $1, $2, 0, 1, 'leased', 1)
)
INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)
VALUES ($14, 1, $15, $1, $16, $6, $17, $18, $19, 'stream', clock_timestamp() + $12 * interval '1 millisecond')`;

/**
 * Everything a streamed request needs to be billed, in one transaction: without it nothing the node does is ever charged.
 * The job outlives its lease by as much again, for the verdict.
 */
export async function openStream(database: Database, stream: NewStream): Promise<StreamOpened> {
  return database.transaction(
    async (tx) => {
      const claim = await claimRequest(tx, stream.orgId, stream.identity, stream.jobId, (jobId) =>
        endedEmpty(tx, stream.orgId, jobId),
      );
      if (claim.outcome === 'key-reused') return { opened: false, why: 'key-reused' };
      if (claim.outcome === 'repeated') return { opened: false, why: 'repeated', jobId: claim.subject };
      const refused = await reserve(tx, {
        orgId: stream.orgId,
        keyId: stream.keyId,
        jobId: stream.jobId,
        amount: stream.cap,
      });
      if (refused !== null) {
        await forget(tx, stream);
        return { opened: false, ...refused };
      }
      await tx.query(OPEN, [
        stream.jobId,
        stream.orgId,
        stream.keyId,
        stream.kind,
        stream.endpoint,
        stream.model,
        JSON.stringify(stream.metadata),
        stream.verify,
        stream.region,
        String(stream.cap),
        JSON.stringify(unitsToJson(stream.rateCaps)),
        stream.leaseMs,
        stream.inputLength,
        stream.taskId,
        ...leaseParams(stream),
      ]);
      return { opened: true };
    },
    { durable: true },
  );
}

function leaseParams(lease: StreamLease): unknown[] {
  return [
    lease.nodeId,
    Buffer.from(lease.nonce.slice(2), 'hex'),
    lease.digest,
    lease.engineClass,
    JSON.stringify(unitsToJson(lease.rates)),
  ];
}

/** A request that came to nothing is done anew when it is repeated: nothing was charged for it. */
async function endedEmpty(tx: Sql, orgId: string, jobId: string): Promise<boolean> {
  const [job] = await tx.query<{ state: string }>('SELECT state FROM job WHERE id = $1 AND org_id = $2', [
    jobId,
    orgId,
  ]);
  return job === undefined || job.state === 'failed' || job.state === 'expired' || job.state === 'cancelled';
}

async function forget(tx: Sql, stream: NewStream): Promise<void> {
  if (stream.identity === null) return;
  await tx.query('DELETE FROM idempotency WHERE org_id = $1 AND key = $2', [stream.orgId, stream.identity.key]);
}

/** A refusal before the first byte, and the next node's lease: one move, so that no placement sees the task in between. */
export async function moveStream(
  database: Database,
  lease: LeaseRef,
  why: string,
  to: StreamLease,
  leaseMs: number,
): Promise<LeaseRef | null> {
  return database.transaction(
    async (tx) => {
      if (!(await endLease(tx, lease, 'refused', why))) return null;
      const epoch = lease.epoch + 1;
      await tx.query(`UPDATE task SET state = 'queued', epoch = $2, why = $3 WHERE id = $1`, [lease.task, epoch, why]);
      await tx.query(`UPDATE task SET state = 'leased', why = NULL WHERE id = $1`, [lease.task]);
      await tx.query(
        `INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)
         SELECT $1, $2, $3, job_id, $4, model, $5, $6, $7, 'stream', clock_timestamp() + $8 * interval '1 millisecond'
         FROM lease WHERE task_id = $1 AND epoch = $2 - 1`,
        [lease.task, epoch, ...leaseParams(to), leaseMs],
      );
      return { task: lease.task, epoch };
    },
    { durable: true },
  );
}

/** Ends a request without an answer. Free for the requester, by compare-and-set on the lease. */
export async function failStream(database: Database, lease: LeaseRef, code: string, message: string): Promise<boolean> {
  return database.transaction(
    async (tx) => {
      const [of] = await tx.query<{ job_id: string }>('SELECT job_id FROM lease WHERE task_id = $1 AND epoch = $2', [
        lease.task,
        lease.epoch,
      ]);
      if (of === undefined) return false;
      await lockJobs(tx, [of.job_id]);
      if (!(await endLease(tx, lease, 'lost', code))) return false;
      await tx.query(`UPDATE task SET state = 'queued', epoch = epoch + 1, why = $2 WHERE id = $1`, [lease.task, code]);
      await failQueued(tx, [lease.task], { code, message });
      await closeJobs(tx, [of.job_id]);
      return true;
    },
    { durable: true },
  );
}

/** Takes the lease's lock, through which every move of its task goes. False when the lease had ended or committed before. */
async function endLease(tx: Sql, lease: LeaseRef, outcome: 'refused' | 'lost', why: string): Promise<boolean> {
  const ended = await tx.query(
    `UPDATE lease l SET ended_at = clock_timestamp(), outcome = $3, why = $4 FROM task t
     WHERE l.task_id = $1 AND l.epoch = $2 AND l.ended_at IS NULL AND l.committed_at IS NULL
       AND t.id = l.task_id AND t.epoch = l.epoch AND t.state IN ('leased', 'running') RETURNING 1`,
    [lease.task, lease.epoch, outcome, why],
  );
  return ended.length > 0;
}

interface AnswerRecord {
  readonly row_state: StreamAnswer['state'];
  readonly task_state: StreamAnswer['taskState'];
  readonly task_id: string;
  readonly epoch: number;
  readonly model_digest: string;
  readonly engine_class: string;
  readonly segment_offset: string | null;
  readonly segment_length: number | null;
}

export async function streamAnswer(sql: Sql, orgId: string, jobId: string): Promise<StreamAnswer | null> {
  const [row] = await sql.query<AnswerRecord>(
    `SELECT r.state AS row_state, t.state AS task_state, l.task_id, l.epoch, l.model_digest, l.engine_class, d.segment_offset, d.segment_length
     FROM job JOIN job_row r ON r.job_id = job.id AND r.row_no = 0
     JOIN task t ON t.job_id = job.id
     JOIN lease l ON l.task_id = t.id AND l.epoch = t.epoch
     LEFT JOIN delivered_row d ON d.task_id = l.task_id AND d.epoch = l.epoch AND d.row_no = 0
     WHERE job.id = $1 AND job.org_id = $2 AND job.kind IN ('chat', 'embedding')`,
    [jobId, orgId],
  );
  if (row === undefined) return null;
  const { segment_offset: offset, segment_length: length } = row;
  return {
    state: row.row_state,
    taskState: row.task_state,
    lease: { task: row.task_id, epoch: row.epoch },
    digest: row.model_digest,
    engineClass: row.engine_class,
    piece: offset === null || length === null ? null : { offset: Number(offset), length },
  };
}
