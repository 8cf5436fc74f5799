import { unitsToJson } from '@freehold/domain';
import type { NewStream, NoMoney, StreamAnswer, StreamLease, StreamOpened } from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';
import { identityParams } from '../accounts/request-claims.ts';
import type { Database, Sql } from '../database.ts';
import { closeJobs, lockJobs } from '../leases/close-jobs.ts';
import { failQueued } from '../leases/give-back.ts';

const OPEN = `SELECT outcome, available, earlier FROM open_stream($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
  $15, $16, $17, $18, $19, $20, $21, $22, $23)`;

interface OpenedRow {
  readonly outcome: 'opened' | 'key-reused' | 'repeated' | NoMoney['why'];
  readonly available: string | null;
  readonly earlier: string | null;
}

/**
 * Everything a streamed request needs to be billed, in one transaction and one round trip (`open_stream`): without it nothing
 * the node does is ever charged.
 *
 * It does not wait for the disk by itself. The log is written in order, so the commit of the answer, which does wait, makes the
 * opening durable before anything can be billed; a server that dies in between has forgotten the request, its hold and its
 * charge alike.
 */
export async function openStream(database: Database, stream: NewStream): Promise<StreamOpened> {
  const [row] = await database.query<OpenedRow>(OPEN, [
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
    ...identityParams(stream.identity),
  ]);
  if (row === undefined) throw new Error(`Opening ${stream.jobId}: the database gave no answer`);
  switch (row.outcome) {
    case 'opened':
      return { opened: true };
    case 'key-reused':
      return { opened: false, why: 'key-reused' };
    case 'repeated':
      return { opened: false, why: 'repeated', jobId: row.earlier ?? '' };
    case 'daily-cap':
    case 'insufficient-balance':
      return { opened: false, why: row.outcome, balance: BigInt(row.available ?? 0) };
  }
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
