import { countsAsAttempt, nextState, type TaskEvent } from '@freehold/domain';
import type { Fenced } from '@freehold/market';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import type { JobRow, LeaseRow, MemoryDatabase, TaskRow } from './database.ts';
import { releaseHold } from './ledger.ts';

/** A new task, and its first line in the log of moves. */
export function addTask(db: MemoryDatabase, task: TaskRow): void {
  db.tasks.insert(task.id, task);
  log(db, task, null);
}

/** Moves a task as the state machine of the domain allows; false where it does not. Every return to the queue is a new epoch. */
export function moveTask(db: MemoryDatabase, id: string, event: TaskEvent, change: Partial<TaskRow> = {}): boolean {
  const before = db.tasks.must(id);
  const state = nextState(before.state, event);
  if (state === null) return false;
  const isBack = state === 'queued';
  const moved = db.tasks.update(id, {
    ...change,
    state,
    epoch: before.epoch + (isBack ? 1 : 0),
    attempts: before.attempts + (isBack && countsAsAttempt(event) ? 1 : 0),
  });
  log(db, moved, before);
  return true;
}

function log(db: MemoryDatabase, task: TaskRow, before: TaskRow | null): void {
  const { id, state: to, epoch, why } = task;
  const turn = db.serial();
  db.taskEvents.insert(String(turn), { task: id, epoch, from: before?.state ?? null, to, why, atMs: db.nowMs });
}

/** The lease while it holds its task: of the task's epoch, not committed, not ended. */
export function heldLease(db: MemoryDatabase, ref: LeaseRef): { lease: LeaseRow; task: TaskRow } | null {
  const lease = db.leases.get(leaseKey(ref));
  const task = db.tasks.get(ref.task);
  if (lease === undefined || task === undefined || lease.outcome !== null || lease.committed) return null;
  return task.epoch === lease.epoch && (task.state === 'leased' || task.state === 'running') ? { lease, task } : null;
}

export function fenced(db: MemoryDatabase, lease: LeaseRef): Fenced {
  return { moved: false, why: db.leases.get(leaseKey(lease)) === undefined ? 'not-found' : 'moved-by-another' };
}

/** Tasks of a job that still move. */
export function openTasks(db: MemoryDatabase, jobId: string): TaskRow[] {
  const open = new Set(['queued', 'leased', 'running', 'delivered']);
  return db.tasks.where((task) => task.jobId === jobId && open.has(task.state));
}

/** Keys and numbers of rows [from, to). */
export function rowsOf(jobId: string, from: number, to: number): [string, number][] {
  const keys: [string, number][] = [];
  for (let rowNo = from; rowNo < to; rowNo += 1) keys.push([`${jobId}/${rowNo}`, rowNo]);
  return keys;
}

/** Pending rows of [from, to) get their terminal record. */
export function endRows(
  db: MemoryDatabase,
  jobId: string,
  range: { readonly from: number; readonly to: number },
  end: { readonly state: 'failed' | 'expired' | 'cancelled'; readonly code: string; readonly message: string },
): void {
  let ended = 0;
  for (const [key] of rowsOf(jobId, range.from, range.to)) {
    if (db.rows.must(key).state !== 'pending') continue;
    db.rows.update(key, { state: end.state, errorCode: end.code, errorMessage: end.message });
    ended += 1;
  }
  const job = db.jobs.must(jobId);
  db.jobs.update(
    jobId,
    end.state === 'failed'
      ? { rowsFailed: job.rowsFailed + ended }
      : { rowsEnded: job.rowsEnded + ended, nextRow: job.rowCount },
  );
}

/** Closes a batch whose rows all have their terminal record, with no task in flight: its files are written next. */
export function closeJob(db: MemoryDatabase, jobId: string): boolean {
  const job = db.jobs.must(jobId);
  const isWhole = job.rowsSucceeded + job.rowsFailed + job.rowsEnded === job.rowCount;
  if ((job.state !== 'in_progress' && job.state !== 'cancelling') || !isWhole || openTasks(db, jobId).length > 0)
    return false;
  enter(db, job, 'finalizing');
  db.file('finalize', { job: jobId });
  return true;
}

export function enter(db: MemoryDatabase, job: JobRow, state: JobRow['state'], change: Partial<JobRow> = {}): JobRow {
  const moved = db.jobs.update(job.id, { ...change, state, enteredMs: { ...job.enteredMs, [state]: db.nowMs } });
  if (state === 'completed' || state === 'expired' || state === 'cancelled') releaseHold(db, job.id);
  return moved;
}
