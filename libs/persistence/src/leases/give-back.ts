import type { TaskState } from '@freehold/domain';
import type { Moved } from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';
import type { Database, Sql } from '../database.ts';
import { fileWork } from '../outbox.ts';
import { closeJobs, failRows, lockJobs } from './close-jobs.ts';
import { fencedBecause } from './progress.ts';

export type GiveBackEvent = 'refuse' | 'yield' | 'lose';
export type GivenBack = Moved<{ readonly keptRows: number; readonly requeuedRows: number }>;

const OUTCOMES = { refuse: 'refused', yield: 'yielded', lose: 'lost' } as const;

interface HeldTask {
  readonly job_id: string;
  readonly node_id: string;
  readonly state: TaskState;
  readonly rows: number;
  readonly checkpoint_rows: number;
  readonly road: 'batch' | 'stream';
  readonly is_current: boolean;
}

/**
 * A lease ends without all of its rows. What its last checkpoint covers stays: the task shrinks to those rows and is
 * delivered under the same epoch, as if the node had committed there; the rest becomes a task of its own. Without a
 * checkpoint the whole task goes back to the queue under the next epoch, and whatever the node still says is stale.
 *
 * A lost streamed task fails: its client is gone, nobody would read a second answer.
 */
export async function giveBack(
  database: Database,
  lease: LeaseRef,
  event: GiveBackEvent,
  why: string,
  saidBy?: string,
): Promise<GivenBack> {
  return database.transaction(async (tx) => {
    const held = await lockLease(tx, lease);
    if (held === undefined || !held.is_current) return fencedBecause(tx, lease);
    if (saidBy !== undefined && saidBy !== held.node_id) return fencedBecause(tx, lease);
    // Its verdict comes. Else a node would hand its rows back when it sees which of them are drawn; and two that take the same lease
    // back, or a late row that its stream dies of, would throw away what was signed for and kept.
    if (held.state === 'delivered') return fencedBecause(tx, lease);
    const isAttempt = event === 'lose';
    if (isAttempt) await countLost(tx, lease);
    const kept = held.checkpoint_rows;
    if (kept > 0) return keepCheckpoint(tx, lease, held, kept, event, why);
    await endLease(tx, lease, OUTCOMES[event], why);
    await requeue(tx, [lease], isAttempt, why);
    if (isAttempt && held.road === 'stream') {
      await failQueued(tx, [lease.task], { code: 'node_lost', message: why });
      await closeJobs(tx, [held.job_id]);
      return { moved: true, keptRows: 0, requeuedRows: 0 };
    }
    await fileWork(tx, [{ topic: 'place', ids: { job: held.job_id } }]);
    return { moved: true, keptRows: 0, requeuedRows: held.rows };
  });
}

/** The lease's row, locked: whoever holds it decides about the task. A streamed task may end its job, whose lock comes first. */
async function lockLease(tx: Sql, lease: LeaseRef): Promise<HeldTask | undefined> {
  const [stream] = await tx.query<{ job_id: string }>(
    `SELECT job_id FROM lease WHERE task_id = $1 AND epoch = $2 AND road = 'stream'`,
    [lease.task, lease.epoch],
  );
  if (stream !== undefined) await lockJobs(tx, [stream.job_id]);
  const locked = await tx.query('SELECT 1 FROM lease WHERE task_id = $1 AND epoch = $2 FOR NO KEY UPDATE', [
    lease.task,
    lease.epoch,
  ]);
  if (locked.length === 0) return undefined;
  const [held] = await tx.query<HeldTask>(
    `SELECT t.job_id, l.node_id, t.state, t.row_to - t.row_from AS rows, l.checkpoint_rows, l.road,
       l.ended_at IS NULL AND t.epoch = l.epoch AND t.state IN ('leased', 'running', 'delivered') AS is_current
     FROM lease l JOIN task t ON t.id = l.task_id WHERE l.task_id = $1 AND l.epoch = $2`,
    [lease.task, lease.epoch],
  );
  return held;
}

async function keepCheckpoint(
  tx: Sql,
  lease: LeaseRef,
  held: HeldTask,
  kept: number,
  event: GiveBackEvent,
  why: string,
): Promise<GivenBack> {
  await commitAtCheckpoint(tx, [lease], why);
  const rest = held.rows - kept;
  if (rest > 0) {
    await tx.query(
      `INSERT INTO task (job_id, org_id, row_from, row_to, state, attempts, pool_id, last_node, why)
       SELECT t.job_id, t.org_id, t.row_to, t.row_to + $3, 'queued', t.attempts + $4, t.pool_id, l.node_id, $5
       FROM task t JOIN lease l ON l.task_id = t.id AND l.epoch = $2 WHERE t.id = $1`,
      [lease.task, lease.epoch, rest, event === 'lose' ? 1 : 0, why],
    );
    await fileWork(tx, [{ topic: 'place', ids: { job: held.job_id } }]);
  }
  return { moved: true, keptRows: kept, requeuedRows: rest };
}

/** Shrinks leased or running tasks to their last checkpoint and delivers them as committed there. Their leases are locked. */
export async function commitAtCheckpoint(tx: Sql, leases: readonly LeaseRef[], why: string): Promise<void> {
  await tx.query(
    `WITH committed AS (
       UPDATE lease l SET committed_at = clock_timestamp(), why = $3
       FROM unnest($1::uuid[], $2::int[]) AS ref (task_id, epoch)
       WHERE l.task_id = ref.task_id AND l.epoch = ref.epoch AND l.ended_at IS NULL AND l.checkpoint_rows > 0
       RETURNING l.task_id, l.epoch, l.checkpoint_rows
     )
     UPDATE task SET state = 'delivered', row_to = row_from + committed.checkpoint_rows, why = $3 FROM committed
     WHERE task.id = committed.task_id AND task.epoch = committed.epoch AND task.state IN ('leased', 'running')`,
    [leases.map(({ task }) => task), leases.map(({ epoch }) => epoch), why],
  );
  await fileWork(
    tx,
    leases.map(({ task, epoch }) => ({ topic: 'verify', ids: { task, epoch } })),
  );
}

/** Tasks back to the queue under the next epoch. */
export async function requeue(tx: Sql, leases: readonly LeaseRef[], isAttempt: boolean, why: string): Promise<void> {
  await tx.query(
    `UPDATE task SET state = 'queued', epoch = task.epoch + 1, attempts = attempts + $3, queued_at = clock_timestamp(),
       why = $4, last_node = l.node_id
     FROM unnest($1::uuid[], $2::int[]) AS ref (task_id, epoch) JOIN lease l USING (task_id, epoch)
     WHERE task.id = ref.task_id AND task.epoch = ref.epoch AND task.state IN ('leased', 'running', 'delivered')`,
    [leases.map(({ task }) => task), leases.map(({ epoch }) => epoch), isAttempt ? 1 : 0, why],
  );
}

/** Queued tasks that are given up, with their rows. */
export async function failQueued(
  tx: Sql,
  taskIds: readonly string[],
  failure: { readonly code: string; readonly message: string },
): Promise<number> {
  const failed = await tx.query<{ id: string }>(
    `UPDATE task SET state = 'failed', ended_at = clock_timestamp(), why = $2
     WHERE id = ANY($1::uuid[]) AND state = 'queued' RETURNING id`,
    [taskIds, failure.message],
  );
  if (failed.length > 0) {
    await failRows(
      tx,
      failed.map(({ id }) => id),
      failure,
    );
  }
  return failed.length;
}

async function endLease(tx: Sql, lease: LeaseRef, outcome: string, why: string): Promise<void> {
  await tx.query(
    `UPDATE lease SET ended_at = clock_timestamp(), outcome = $3, why = $4
     WHERE task_id = $1 AND epoch = $2 AND ended_at IS NULL`,
    [lease.task, lease.epoch, outcome, why],
  );
}

async function countLost(tx: Sql, lease: LeaseRef): Promise<void> {
  await tx.query(
    `UPDATE node SET leases_lost = leases_lost + 1 FROM lease WHERE lease.task_id = $1 AND lease.epoch = $2 AND node.id = lease.node_id`,
    [lease.task, lease.epoch],
  );
}
