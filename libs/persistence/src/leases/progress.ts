import { DomainError, unitsToJson } from '@freehold/domain';
import type { DeliveredRow, Fenced, LeaseInputs, LeaseStore, LeaseView, Moved } from '@freehold/market';
import { leaseKey, STALL_MS, type HeldLease, type LeaseRef } from '@freehold/protocol';
import type { Sql } from '../database.ts';
import { inBlocks } from '../jobs/row-blocks.ts';
import {
  bytesOf,
  deliveredRow,
  GRANTED_COLUMNS,
  leaseView,
  type DeliveredRowColumns,
  type ViewRow,
} from './lease-rows.ts';

/**
 * While a lease is held, three things are true at once: the task's epoch is the lease's, the task is leased or running,
 * and the lease has not ended. Its clock alone takes nothing away: it only says from when on the reaper may, and until
 * the reaper came the holder's rows are as good as any. Whoever takes a lease away sets `ended_at`, so a row lock on the
 * lease is what every move of its task goes through (locks are taken in the order job, lease, task).
 */
const HELD = `l.ended_at IS NULL AND l.committed_at IS NULL AND t.epoch = l.epoch AND t.state IN ('leased', 'running')`;

/** It may be extended: nobody asked for it, or the time to hand it back is not over. */
const MAY_STAY = `(l.yield_by IS NULL OR l.yield_by > clock_timestamp())`;

export async function fencedBecause(sql: Sql, lease: LeaseRef): Promise<Fenced> {
  const known = await sql.query('SELECT 1 FROM lease WHERE task_id = $1 AND epoch = $2', [lease.task, lease.epoch]);
  return { moved: false, why: known.length > 0 ? 'moved-by-another' : 'not-found' };
}

/** In the order asked. */
export async function views(sql: Sql, leases: readonly LeaseRef[]): Promise<readonly (LeaseView | null)[]> {
  const rows = await sql.query<ViewRow>(
    `SELECT ${GRANTED_COLUMNS}, t.org_id, t.state, t.epoch AS task_epoch, job.verify, job.kind, job.adapter, job.region, job.pool_id, job.metadata, node.payout, node.address, l.road,
       l.checkpoint_rows, l.checkpoint_root, l.checkpoint_signature, l.committed_at IS NOT NULL AS committed,
       l.draw_height, l.draw_seed, l.draw_rows, ${HELD} AND l.lease_until > clock_timestamp() AS alive, l.yield_by IS NOT NULL AS asked,
       l.committed_at IS NOT NULL AND l.why IS NOT NULL AS cut_short
     FROM ${ASKED} JOIN lease l USING (task_id, epoch)
     JOIN task t ON t.id = l.task_id JOIN job ON job.id = l.job_id JOIN node ON node.id = l.node_id`,
    refs(leases),
  );
  const found = new Map(rows.map((row) => [keyOf(row), leaseView(row)]));
  return leases.map((lease) => found.get(leaseKey(lease)) ?? null);
}

/** Leases that are asked about in one statement, each once whoever asks twice: {@link refs} are its parameters. */
export const ASKED =
  '(SELECT DISTINCT task_id, epoch FROM unnest($1::uuid[], $2::int[]) AS ref (task_id, epoch)) AS asked';

function refs(leases: readonly LeaseRef[]): [readonly string[], readonly number[]] {
  return [leases.map(({ task }) => task), leases.map(({ epoch }) => epoch)];
}

const keyOf = (row: { readonly task_id: string; readonly epoch: number }): string => `${row.task_id}.${row.epoch}`;

function byLease<T extends { readonly task_id: string; readonly epoch: number }>(rows: readonly T[]): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const row of rows) {
    const known = found.get(keyOf(row));
    if (known === undefined) found.set(keyOf(row), [row]);
    else known.push(row);
  }
  return found;
}

/** Input places of the lease's rows from index `from` on; null when the task is not this lease's any more. */
export async function inputs(sql: Sql, lease: LeaseRef, from: number): Promise<LeaseInputs | null> {
  const rows = await sql.query<{
    input_file_id: string | null;
    endpoint: string;
    model: string;
    adapter: string | null;
    row_no: number | null;
    custom_id: string;
    input_offset: string;
    input_length: number;
  }>(
    `SELECT job.input_file_id, job.endpoint, l.model, job.adapter, r.row_no, r.custom_id, r.input_offset, r.input_length
     FROM lease l JOIN task t ON t.id = l.task_id AND t.epoch = l.epoch JOIN job ON job.id = t.job_id
     LEFT JOIN job_row r ON r.job_id = t.job_id AND ${inBlocks('t.row_from + $3::int', 't.row_to')}
       AND r.row_no >= t.row_from + $3 AND r.row_no < t.row_to
     WHERE l.task_id = $1 AND l.epoch = $2 AND t.state IN ('leased', 'running', 'delivered')
     ORDER BY r.row_no`,
    [lease.task, lease.epoch, from],
  );
  const [first] = rows;
  if (first === undefined) return null;
  const places = rows.flatMap((row) =>
    row.row_no === null
      ? []
      : [{ rowNo: row.row_no, customId: row.custom_id, offset: Number(row.input_offset), length: row.input_length }],
  );
  // A streamed job has no input file: its one line travels in the request.
  return {
    inputFile: first.input_file_id ?? '',
    endpoint: first.endpoint,
    model: first.model,
    adapter: first.adapter,
    rows: places,
  };
}

export async function start(sql: Sql, lease: LeaseRef): Promise<Moved> {
  const [moved] = await sql.query(
    `WITH l AS (
       UPDATE lease l SET started_at = clock_timestamp(), progressed_at = clock_timestamp() FROM task t
       WHERE l.task_id = $1 AND l.epoch = $2 AND t.id = l.task_id AND ${HELD} AND t.state = 'leased'
       RETURNING l.task_id, l.epoch
     )
     UPDATE task SET state = 'running' FROM l WHERE task.id = l.task_id AND task.epoch = l.epoch AND task.state = 'leased'
     RETURNING 1`,
    [lease.task, lease.epoch],
  );
  return moved === undefined ? fencedBecause(sql, lease) : { moved: true };
}

/** One UPDATE for a whole tick. Locks in the order of the key, so that two ticks never wait in a circle. */
export async function extend(
  sql: Sql,
  held: readonly { readonly nodeId: string; readonly lease: LeaseRef }[],
  leaseMs: number,
  stallMs = STALL_MS,
): Promise<readonly LeaseRef[]> {
  if (held.length === 0) return [];
  return sql.query<LeaseRef>(
    `WITH held AS (
       SELECT l.task_id, l.epoch, l.node_id
       FROM unnest($1::text[], $2::uuid[], $3::int[]) AS claim (node_id, task_id, epoch)
       JOIN lease l USING (task_id, epoch, node_id) JOIN task t ON t.id = l.task_id
       WHERE ${HELD} AND l.progressed_at > clock_timestamp() - $5 * interval '1 millisecond' AND ${MAY_STAY}
       ORDER BY l.task_id FOR NO KEY UPDATE OF l
     )
     UPDATE lease l SET lease_until = greatest(l.lease_until, clock_timestamp() + $4 * interval '1 millisecond')
     FROM held WHERE l.task_id = held.task_id AND l.epoch = held.epoch
     RETURNING l.task_id AS task, l.epoch`,
    [
      held.map(({ nodeId }) => nodeId),
      held.map(({ lease }) => lease.task),
      held.map(({ lease }) => lease.epoch),
      leaseMs,
      stallMs,
    ],
  );
}

/**
 * The nonce proves that the lease was really given to who presents it. Delivered leases stay the node's until their verdict; of one that
 * was cut short at its last checkpoint the node has nothing more to do.
 */
export async function resume(
  sql: Sql,
  nodeId: string,
  held: readonly HeldLease[],
  leaseMs: number,
  stallMs = STALL_MS,
): Promise<readonly LeaseRef[]> {
  if (held.length === 0) return [];
  return sql.query<LeaseRef>(
    `UPDATE lease l SET lease_until = greatest(l.lease_until, clock_timestamp() + $5 * interval '1 millisecond')
     FROM unnest($2::uuid[], $3::int[], $4::bytea[]) AS claim (task_id, epoch, nonce), task t
     WHERE l.task_id = claim.task_id AND l.epoch = claim.epoch AND l.node_id = $1 AND l.nonce = claim.nonce
       AND t.id = l.task_id AND t.epoch = l.epoch AND l.ended_at IS NULL AND t.state IN ('leased', 'running', 'delivered')
       AND ((l.committed_at IS NOT NULL AND l.why IS NULL) OR (l.committed_at IS NULL AND l.progressed_at > clock_timestamp() - $6 * interval '1 millisecond' AND ${MAY_STAY}))
     RETURNING l.task_id AS task, l.epoch`,
    [
      nodeId,
      held.map(({ task }) => task),
      held.map(({ epoch }) => epoch),
      held.map(({ nonce }) => bytesOf(nonce)),
      leaseMs,
      stallMs,
    ],
  );
}

/** Asked twice, or by two schedulers, a node has the time that it was given first. */
export async function yieldWithin(sql: Sql, lease: LeaseRef, withinMs: number): Promise<Moved> {
  const [moved] = await sql.query(
    `UPDATE lease l SET yield_by = coalesce(l.yield_by, clock_timestamp() + $3 * interval '1 millisecond'),
       asked_rows = CASE WHEN l.yield_by IS NULL THEN l.checkpoint_rows ELSE l.asked_rows END FROM task t
     WHERE l.task_id = $1 AND l.epoch = $2 AND t.id = l.task_id AND ${HELD} RETURNING 1`,
    [lease.task, lease.epoch, withinMs],
  );
  return moved === undefined ? fencedBecause(sql, lease) : { moved: true };
}

/** What a node that came back has nothing of. Younger ones may still be on their way to it. */
export async function missing(
  sql: Sql,
  nodeId: string,
  held: readonly HeldLease[],
  graceMs: number,
): Promise<readonly LeaseRef[]> {
  return sql.query<LeaseRef>(
    `SELECT l.task_id AS task, l.epoch FROM lease l JOIN task t ON t.id = l.task_id
     WHERE l.node_id = $1 AND l.road = 'batch' AND ${HELD} AND l.granted_at < clock_timestamp() - $4 * interval '1 millisecond'
       AND NOT EXISTS (SELECT 1 FROM unnest($2::uuid[], $3::int[]) AS claim (task_id, epoch)
                       WHERE claim.task_id = l.task_id AND claim.epoch = l.epoch)
     ORDER BY l.task_id`,
    [nodeId, held.map(({ task }) => task), held.map(({ epoch }) => epoch), graceMs],
  );
}

/** In the order asked. */
export async function delivered(sql: Sql, leases: readonly LeaseRef[]): Promise<readonly (readonly DeliveredRow[])[]> {
  const rows = await sql.query<DeliveredRowColumns & { readonly task_id: string; readonly epoch: number }>(
    `SELECT task_id, epoch, row_no, segment_offset, segment_length, leaf_hash, succeeded, usage
     FROM ${ASKED} JOIN delivered_row USING (task_id, epoch) ORDER BY row_no`,
    refs(leases),
  );
  const found = byLease(rows);
  return leases.map((lease) => (found.get(leaseKey(lease)) ?? []).map(deliveredRow));
}

type CheckpointAt = Parameters<LeaseStore['checkpoint']>[2];

/**
 * One statement: the lease's checkpoint moves from exactly `n − rows` to `n`, its rows are written, and with `last` the
 * task is delivered and its verification filed. A commit waits for the disk, because it is countersigned afterwards.
 * A checkpoint that is already there (its answer was lost) is confirmed again.
 */
export async function checkpoint(
  sql: Sql,
  lease: LeaseRef,
  rows: readonly DeliveredRow[],
  at: CheckpointAt,
): Promise<Moved> {
  const gap = rows.findIndex((row, i) => row.rowNo !== (rows[0]?.rowNo ?? 0) + i);
  if (gap !== -1 || rows.length > at.n) {
    throw new DomainError({ code: 'CHECKPOINT_GAP', task: lease.task, n: at.n, rows: rows.length, gapAt: gap });
  }
  const [outcome] = await sql.query<{ moved: boolean }>(CHECKPOINT, [
    lease.task,
    lease.epoch,
    at.n,
    bytesOf(at.root),
    bytesOf(at.signature),
    at.last,
    at.drawHeight === null ? null : String(at.drawHeight),
    rows.length,
    rows[0]?.rowNo ?? null,
    rows.map(({ rowNo }) => rowNo),
    rows.map(({ offset }) => offset),
    rows.map(({ length }) => length),
    rows.map(({ leafHash }) => Buffer.from(leafHash)),
    rows.map(({ succeeded }) => succeeded),
    rows.map(({ usage }) => JSON.stringify(unitsToJson(usage))),
  ]);
  if (outcome?.moved === true || (await isThere(sql, lease, at))) return { moved: true };
  return fencedBecause(sql, lease);
}

const CHECKPOINT = `
WITH moved AS (
  UPDATE lease l SET checkpoint_rows = $3, checkpoint_root = $4, checkpoint_signature = $5,
    progressed_at = CASE WHEN $8::int > 0 THEN clock_timestamp() ELSE l.progressed_at END,
    draw_height = coalesce($7::bigint, l.draw_height), committed_at = CASE WHEN $6 THEN clock_timestamp() END
  FROM task t
  WHERE l.task_id = $1 AND l.epoch = $2 AND t.id = l.task_id AND ${HELD}
    AND l.checkpoint_rows = $3 - $8::int AND ($8 = 0 OR t.row_from + l.checkpoint_rows = $9::int)
    AND $3 <= t.row_to - t.row_from AND (NOT $6 OR $3 = t.row_to - t.row_from)
  RETURNING l.task_id, l.epoch
), handed_over AS (
  UPDATE task SET state = 'delivered' FROM moved
  WHERE $6 AND task.id = moved.task_id AND task.epoch = moved.epoch AND task.state IN ('leased', 'running')
), written AS (
  INSERT INTO delivered_row (task_id, epoch, row_no, segment_offset, segment_length, leaf_hash, succeeded, usage)
  SELECT moved.task_id, moved.epoch, line.* FROM moved,
    unnest($10::int[], $11::bigint[], $12::int[], $13::bytea[], $14::bool[], $15::jsonb[]) AS line
), filed AS (
  INSERT INTO outbox (topic, message)
  SELECT 'verify', jsonb_build_object('task', task_id, 'epoch', epoch) FROM moved WHERE $6
)
SELECT EXISTS (SELECT 1 FROM moved) AS moved, CASE WHEN $6 THEN set_config('synchronous_commit', 'on', true) END`;

async function isThere(sql: Sql, lease: LeaseRef, at: CheckpointAt): Promise<boolean> {
  const same = await sql.query(
    `SELECT 1 FROM lease l JOIN task t ON t.id = l.task_id AND t.epoch = l.epoch
     WHERE l.task_id = $1 AND l.epoch = $2 AND l.ended_at IS NULL AND l.checkpoint_rows = $3 AND l.checkpoint_root = $4
       AND (l.committed_at IS NOT NULL) = $5 AND t.state IN ('leased', 'running', 'delivered')`,
    [lease.task, lease.epoch, at.n, bytesOf(at.root), at.last],
  );
  return same.length > 0;
}
