import { coveredBy, isJobFinal, ledger, UNCOVERED, type Amount } from '@freehold/domain';
import type { DeadLease } from '@freehold/market';
import { LEASE_MS, leaseKey, STALL_MS } from '@freehold/protocol';
import { failQueued } from './acceptance.ts';
import type { JobRow, MemoryDatabase } from './database.ts';
import { commitAtCheckpoint } from './give-back.ts';
import { balanceOf } from './ledger.ts';
import { closeJob, endRows, enter, moveTask, openTasks, rowsOf } from './task-moves.ts';

const VERDICT_GRACE_MS = 600_000;
const AWAY_MS = 10_000;
const GRACE_MS = 30_000;
const ALIVE = 'alive';

/** Ends what is past its deadline, cancelled, or not covered by an order any more; returns the jobs that were closed now. */
export function expireJobs(db: MemoryDatabase): readonly string[] {
  for (const job of db.jobs.where(({ state, deadlineMs }) => state === 'validating' && deadlineMs < db.nowMs)) {
    enter(db, job, 'expired');
    dropRows(db, job.id);
  }
  cancelUncovered(db);
  const ending = db.jobs.where(
    ({ state, deadlineMs }) => state === 'cancelling' || (state === 'in_progress' && deadlineMs < db.nowMs),
  );
  for (const job of ending) endWork(db, job);
  return ending.filter(({ id }) => closeJob(db, id)).map(({ id }) => id);
}

/** What of an organisation's orders may be charged in the next epoch, less what its running jobs hold; null: all that it has. */
export function coveredFor(db: MemoryDatabase, orgId: string): Amount | null {
  const covered = coveredOf(db, orgId);
  if (covered === null) return null;
  const left = holdsOf(db, orgId).reduce((rest, { held }) => rest - held, covered);
  return left > 0n ? left : 0n;
}

function coveredOf(db: MemoryDatabase, orgId: string): Amount | null {
  const [book] = db.chainBooks.where(({ isAlive }) => isAlive);
  if (book === undefined || db.orgs.must(orgId).trust !== 'self-custody') return null;
  const [open] = db.chainEpochs.where(({ state }) => state === 'open');
  const orders = db.chainOrders.where((order) => order.orgId === orgId && !order.isOperator);
  return coveredBy(orders, open?.epoch ?? null);
}

function holdsOf(db: MemoryDatabase, orgId: string): { readonly job: JobRow; readonly held: Amount }[] {
  return db.jobs
    .where((job) => job.orgId === orgId && (job.state === 'in_progress' || job.state === 'cancelling'))
    .sort((a, b) => a.createdMs - b.createdMs || (a.id < b.id ? -1 : 1))
    .map((job) => ({ job, held: balanceOf(db, ledger.holdOf(job.id)) }));
}

/** Jobs of who pays by themselves, oldest first, as far as their holds are beyond what their orders cover in the next epoch. */
function cancelUncovered(db: MemoryDatabase): void {
  for (const { id } of db.orgs.where(({ trust }) => trust === 'self-custody')) {
    const covered = coveredOf(db, id);
    if (covered === null) continue;
    let all = 0n;
    for (const { job, held } of holdsOf(db, id)) {
      all += held;
      if (all <= covered || job.state !== 'in_progress') continue;
      const faults = [{ ...UNCOVERED, param: null, line: null }];
      enter(db, job, 'cancelling', { cancellingMs: db.nowMs, faults });
    }
  }
}

export function dropRows(db: MemoryDatabase, jobId: string): void {
  for (const { rowNo } of db.rows.where((row) => row.jobId === jobId)) db.rows.delete(`${jobId}/${rowNo}`);
}

function endWork(db: MemoryDatabase, job: JobRow): void {
  const isCancelled = job.state === 'cancelling';
  const ending = isCancelled ? 'cancelled' : 'expired';
  const event = isCancelled ? 'cancel' : 'expire';
  const cancelled = job.faults?.[0]?.message ?? 'the job was cancelled';
  const why = isCancelled ? cancelled : 'the job is past its completion window';
  const isLate = db.nowMs > (job.cancellingMs ?? job.deadlineMs) + VERDICT_GRACE_MS;
  for (const task of openTasks(db, job.id)) {
    const lease = db.leases.get(`${task.id}.${task.epoch}`);
    const isOpen = lease !== undefined && lease.outcome === null && task.state !== 'queued';
    if (task.state === 'delivered' && !isLate) continue;
    if (isOpen && !lease.committed && lease.checkpointRows > 0) {
      commitAtCheckpoint(db, lease, why);
      continue;
    }
    if (isOpen) db.leases.update(leaseKey(lease), { outcome: ending, why });
    moveTask(db, task.id, event, { why });
  }
  // Rows that nobody will answer any more: not done, and not under a delivered task that waits for its verdict.
  const waiting = openTasks(db, job.id).filter(({ state }) => state === 'delivered');
  for (const [, rowNo] of rowsOf(job.id, 0, job.rowCount)) {
    if (waiting.some(({ rowFrom, rowTo }) => rowFrom <= rowNo && rowNo < rowTo)) continue;
    const end = { state: ending, code: `batch_${ending}`, message: why } as const;
    endRows(db, job.id, { from: rowNo, to: rowNo + 1 }, end);
  }
}

export function failPoison(db: MemoryDatabase, attemptsMax: number): number {
  const worn = db.tasks.where(({ state, attempts }) => state === 'queued' && attempts >= attemptsMax);
  const message = `gave up after ${attemptsMax} attempts that were lost or rejected`;
  const failed = failQueued(db, worn, { code: 'attempts_exhausted', message });
  for (const jobId of new Set(worn.map((task) => task.jobId))) closeJob(db, jobId);
  return failed;
}

/** Leases whose clock ran out; none while the coordinator itself was silent. */
export function expired(db: MemoryDatabase, limit: number, stallMs = STALL_MS): readonly DeadLease[] {
  const self = db.facts.get(ALIVE);
  if (self !== undefined && self.atMs < db.nowMs - AWAY_MS) forgiveOutage(db, GRACE_MS);
  return db.leases
    .where(({ outcome, committed, leaseUntilMs }) => outcome === null && !committed && leaseUntilMs < db.nowMs)
    .sort((a, b) => a.leaseUntilMs - b.leaseUntilMs)
    .slice(0, limit)
    .map(({ task, epoch, nodeId, progressedMs, leaseUntilMs, yieldByMs, checkpointRows, askedRows }) => {
      const kept = yieldByMs !== null && yieldByMs <= db.nowMs && leaseUntilMs >= yieldByMs + LEASE_MS / 2;
      const signedSince = askedRows !== null && checkpointRows > askedRows;
      return { task, epoch, nodeId, stalled: progressedMs <= db.nowMs - stallMs, kept, signedSince };
    });
}

export function forgiveOutage(
  db: MemoryDatabase,
  graceMs: number,
): { readonly outageMs: number; readonly extended: number } {
  const self = db.facts.get(ALIVE);
  if (self === undefined) return { outageMs: 0, extended: 0 };
  const outageMs = db.nowMs - self.atMs;
  const alive = db.leases.where((l) => l.outcome === null && !l.committed && l.leaseUntilMs >= self.atMs);
  for (const lease of alive) {
    const leaseUntilMs = Math.max(lease.leaseUntilMs + outageMs, db.nowMs + graceMs);
    db.leases.update(leaseKey(lease), {
      leaseUntilMs,
      progressedMs: lease.progressedMs + outageMs,
      yieldByMs: lease.yieldByMs === null ? null : lease.yieldByMs + leaseUntilMs - lease.leaseUntilMs,
    });
  }
  heartbeatSelf(db);
  return { outageMs, extended: alive.length };
}

export function heartbeatSelf(db: MemoryDatabase): void {
  db.facts.put(ALIVE, { value: 'true', atMs: db.nowMs });
}

export function isOver(job: JobRow): boolean {
  return isJobFinal(job.state);
}
