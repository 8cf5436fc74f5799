import type { AuditDue, TaskEvent, TaskState } from '@freehold/domain';
import type { LeaseWish, Moved } from '@freehold/market';
import { gangOf, leaseKey, type LeaseRef } from '@freehold/protocol';
import { oweAuditors } from './acceptance.ts';
import type { LeaseRow, MemoryDatabase } from './database.ts';
import { addTask, fenced, moveTask } from './task-moves.ts';

type GiveBackEvent = 'refuse' | 'yield' | 'lose';
const OUTCOMES = { refuse: 'refused', yield: 'yielded', lose: 'lost' } as const;

/** Cuts and leases. A job's new rows are taken by moving its `nextRow` from where the placement saw it: whoever moves it first has them. */
export function grant(db: MemoryDatabase, wishes: readonly LeaseWish[], leaseMs: number): LeaseRow[] {
  const granted: LeaseRow[] = [];
  const partial = partialGangs(db, wishes);
  for (const wish of [...wishes].sort((a, b) => a.rowFrom - b.rowFrom)) {
    const job = db.jobs.must(wish.jobId);
    if (job.state !== 'in_progress' || job.deadlineMs <= db.nowMs) continue;
    if (wish.taskId === null && partial.has(wish.jobId)) continue;
    const task = wish.taskId === null ? cut(db, wish) : takeQueued(db, wish.taskId, wish.epoch);
    if (task === null) continue;
    const epoch = wish.taskId === null ? 1 : wish.epoch;
    const { jobId, nodeId, nonce, model, digest, engineClass, rates } = wish;
    const lease: LeaseRow = {
      task,
      epoch,
      jobId,
      nodeId,
      nonce,
      model,
      digest,
      engineClass,
      rates,
      grantedMs: db.nowMs,
      leaseUntilMs: db.nowMs + leaseMs,
      progressedMs: db.nowMs,
      yieldByMs: null,
      askedRows: null,
      checkpointRows: 0,
      checkpointRoot: null,
      checkpointSignature: null,
      committed: false,
      drawHeight: null,
      drawSeed: null,
      drawRows: null,
      outcome: null,
      why: null,
    };
    db.leases.insert(leaseKey(lease), lease);
    granted.push(lease);
  }
  return granted;
}

/** Jobs that would begin on fewer nodes than they begin on at once. */
function partialGangs(db: MemoryDatabase, wishes: readonly LeaseWish[]): ReadonlySet<string> {
  const firsts = new Map<string, { rowTo: number; readonly nodes: Set<string> }>();
  for (const { jobId, taskId, rowFrom, rowTo, nodeId } of [...wishes].sort((a, b) => a.rowFrom - b.rowFrom)) {
    const chain = firsts.get(jobId) ?? { rowTo: 0, nodes: new Set<string>() };
    if (taskId !== null || chain.rowTo !== rowFrom) continue;
    chain.rowTo = rowTo;
    chain.nodes.add(nodeId);
    firsts.set(jobId, chain);
  }
  const partial = [...new Set(wishes.map(({ jobId }) => jobId))].filter((jobId) => {
    const { nextRow, rowCount, metadata } = db.jobs.must(jobId);
    const [gang, chain] = [gangOf(metadata), firsts.get(jobId)];
    return (
      nextRow === 0 &&
      gang !== null &&
      (chain === undefined || chain.nodes.size < Math.min(gang, rowCount) || chain.rowTo > rowCount)
    );
  });
  return new Set(partial);
}

function cut(db: MemoryDatabase, { jobId, rowFrom, rowTo }: LeaseWish): string | null {
  const job = db.jobs.must(jobId);
  if (rowTo <= rowFrom || job.nextRow !== rowFrom || rowTo > job.rowCount) return null;
  db.jobs.update(jobId, { nextRow: rowTo });
  const id = db.ground.uuid();
  const born = { id, jobId, orgId: job.orgId, rowFrom, rowTo, epoch: 1, attempts: 0, lastNode: null, why: null };
  addTask(db, { ...born, state: 'leased' });
  return id;
}

function takeQueued(db: MemoryDatabase, id: string, epoch: number): string | null {
  const task = db.tasks.get(id);
  if (task === undefined || task.epoch !== epoch || task.state !== 'queued') return null;
  return moveTask(db, id, 'lease', { why: null }) ? id : null;
}

/** A lease ends without all of its rows: what its last checkpoint covers stays and is delivered, the rest goes back to the queue. */
export function giveBack(
  db: MemoryDatabase,
  ref: LeaseRef,
  event: GiveBackEvent,
  why: string,
  saidBy?: string,
): Moved<{ readonly keptRows: number; readonly requeuedRows: number }> {
  const lease = db.leases.get(leaseKey(ref));
  const task = db.tasks.get(ref.task);
  const isCurrent = lease !== undefined && lease.outcome === null && task?.epoch === lease.epoch;
  if (!isCurrent || !['leased', 'running'].includes(task.state)) return fenced(db, ref);
  if (saidBy !== undefined && saidBy !== lease.nodeId) return fenced(db, ref);
  if (event === 'lose') {
    const node = db.nodes.must(lease.nodeId);
    db.nodes.update(node.id, { leasesLost: node.leasesLost + 1 });
  }
  const kept = lease.checkpointRows;
  const rows = task.rowTo - task.rowFrom;
  if (kept > 0) {
    commitAtCheckpoint(db, ref, why);
    if (rows > kept) {
      const { jobId, orgId } = task;
      const attempts = task.attempts + (event === 'lose' ? 1 : 0);
      const rest = { id: db.ground.uuid(), jobId, orgId, rowFrom: task.rowFrom + kept, rowTo: task.rowTo };
      addTask(db, { ...rest, state: 'queued', epoch: 1, attempts, lastNode: lease.nodeId, why });
      db.file('place', { job: jobId });
    }
    return { moved: true, keptRows: kept, requeuedRows: rows - kept };
  }
  db.leases.update(leaseKey(ref), { outcome: OUTCOMES[event], why });
  requeue(db, ref, event, why);
  db.file('place', { job: task.jobId });
  return { moved: true, keptRows: 0, requeuedRows: rows };
}

/** Shrinks a task to its last checkpoint and delivers it as committed there. */
export function commitAtCheckpoint(db: MemoryDatabase, ref: LeaseRef, why: string): void {
  const { checkpointRows } = db.leases.update(leaseKey(ref), { committed: true, why });
  const { rowFrom } = db.tasks.must(ref.task);
  moveTask(db, ref.task, 'deliver', { rowTo: rowFrom + checkpointRows, why });
  db.file('verify', { task: ref.task, epoch: ref.epoch });
}

function requeue(db: MemoryDatabase, ref: LeaseRef, event: GiveBackEvent | 'reject', why: string): void {
  const { nodeId: lastNode } = db.leases.must(leaseKey(ref));
  const { state } = db.tasks.must(ref.task);
  moveTask(db, ref.task, named(event, state), { why, lastNode });
}

/** The event as the state machine has it: a lease that falls with another one is lost; who refuses after the start yields. */
function named(event: GiveBackEvent | 'reject', state: TaskState): TaskEvent {
  if (event === 'reject') return state === 'delivered' ? 'reject' : 'lose';
  if (event === 'refuse' && state === 'running') return 'yield';
  return event === 'yield' && state === 'leased' ? 'refuse' : event;
}

/** A verdict: proven bad rows void every unaccepted lease of the node and bench it; rows in doubt void this one alone. */
export function reject(
  db: MemoryDatabase,
  ref: LeaseRef,
  verdict: { readonly why: string; readonly badRows: number; readonly benchMs: number },
  audits: readonly AuditDue[],
): Moved<{ readonly voided: readonly LeaseRef[] }> {
  const { why, badRows, benchMs } = verdict;
  const named = db.leases.get(leaseKey(ref));
  const open = db.leases.where((lease) => {
    const task = db.tasks.must(lease.task);
    const isNamed = lease.task === ref.task && lease.epoch === ref.epoch;
    const isOpen =
      lease.outcome === null && task.epoch === lease.epoch && ['leased', 'running', 'delivered'].includes(task.state);
    return isOpen && (isNamed || (badRows > 0 && lease.nodeId === named?.nodeId));
  });
  if (named === undefined || !open.some((lease) => lease.task === ref.task && lease.epoch === ref.epoch))
    return fenced(db, ref);
  oweAuditors(db, ref, audits);
  for (const lease of open) {
    const said = lease.task === ref.task ? why : `void with ${ref.task}: ${why}`;
    db.leases.update(leaseKey(lease), { outcome: 'rejected', why: said });
    requeue(db, lease, 'reject', why);
    db.file('place', { job: lease.jobId });
  }
  const node = db.nodes.must(named.nodeId);
  const bench =
    benchMs > 0 ? { benchedUntilMs: Math.max(node.benchedUntilMs, db.nowMs + benchMs), benchedWhy: why } : {};
  db.nodes.update(node.id, { rowsBad: node.rowsBad + badRows, ...bench });
  return { moved: true, voided: open.map(({ task, epoch }) => ({ task, epoch })) };
}
