import { feeOf, ledger, type Amount, type AuditDue } from '@freehold/domain';
import type { Acceptance, Accepted } from '@freehold/market';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import type { AuditReceiptRow, ChainOrderRow, JobRow, LeaseRow, MemoryDatabase, TaskRow } from './database.ts';
import { post } from './ledger.ts';
import { closeJob, endRows, fenced, moveTask, rowsOf } from './task-moves.ts';

const DUES_PER_FEE_MAX = 8;

/** State, receipt, charge, rows, counters, vouchers and the next message: one transaction of its caller. */
export function accept(db: MemoryDatabase, acceptance: Acceptance): Accepted {
  const found = acceptable(db, acceptance);
  if (found === null) return fenced(db, acceptance);
  const { lease, task, job } = found;
  const cap = job.cap ?? 0n;
  const headroom = cap > job.charged ? cap - job.charged : 0n;
  const charge = acceptance.due < headroom ? acceptance.due : headroom;
  const fee = feeOf(charge, acceptance.feeBps);
  if (!moveTask(db, task.id, 'accept')) return fenced(db, acceptance);
  db.leases.update(leaseKey(acceptance), { outcome: 'accepted' });
  landRows(db, acceptance, task);
  db.jobs.update(job.id, { charged: job.charged + charge });
  const { payout, rowsAccepted, rowsAudited } = db.nodes.must(lease.nodeId);
  db.nodes.update(lease.nodeId, {
    rowsAccepted: rowsAccepted + acceptance.rows,
    rowsAudited: rowsAudited + acceptance.audited,
  });
  db.receipts.insert(acceptance.task, {
    task: acceptance.task,
    epoch: acceptance.epoch,
    jobId: job.id,
    nodeId: lease.nodeId,
    payout,
    root: acceptance.root,
    rows: acceptance.rows,
    audited: acceptance.audited,
    usage: acceptance.usage,
    charge,
    fee,
    document: acceptance.document(charge, fee),
  });
  db.file('settle', { task: acceptance.task });
  oweAuditors(db, acceptance, acceptance.audits?.(fee) ?? []);
  const dues = payDues(db, acceptance.task, fee);
  const entries = dues.map((due) => ledger.auditFee(due.payout, due.amount, due.id));
  if (charge > 0n) post(db, [ledger.charge({ job: job.id, task: acceptance.task, payout, charge, fee }), ...entries]);
  if (charge > fee) issueVouchers(db, { lease, job, payout, gross: charge, net: charge - fee }, dues);
  return { moved: true, charge, fee, jobDone: closeJob(db, job.id) };
}

function acceptable(
  db: MemoryDatabase,
  acceptance: Acceptance,
): { lease: LeaseRow; task: TaskRow; job: JobRow } | null {
  const lease = db.leases.get(leaseKey(acceptance));
  const task = db.tasks.get(acceptance.task);
  if (lease === undefined || task === undefined || task.epoch !== acceptance.epoch) return null;
  if (lease.outcome !== null || !lease.committed || lease.checkpointRoot !== acceptance.root) return null;
  return { lease, task, job: db.jobs.must(task.jobId) };
}

function landRows(db: MemoryDatabase, acceptance: Acceptance, task: TaskRow): void {
  const byRow = new Map((db.delivered.get(leaseKey(acceptance))?.rows ?? []).map((row) => [row.rowNo, row]));
  let [succeeded, failed] = [0, 0];
  for (const [key, rowNo] of rowsOf(task.jobId, task.rowFrom, task.rowTo)) {
    const row = byRow.get(rowNo);
    if (row === undefined || db.rows.must(key).state !== 'pending') continue;
    const { offset, length } = row;
    const result = { task: task.id, epoch: task.epoch, offset, length };
    db.rows.update(key, { state: row.succeeded ? 'succeeded' : 'failed', result });
    if (row.succeeded) succeeded += 1;
    else failed += 1;
  }
  const rows = task.rowTo - task.rowFrom;
  if (rows !== acceptance.rows || succeeded !== acceptance.rowsSucceeded || succeeded + failed !== rows)
    throw new Error(
      `Task ${task.id} epoch ${task.epoch}: accepting ${acceptance.rows} rows (${acceptance.rowsSucceeded} succeeded), but ${succeeded} + ${failed} of ${rows} were delivered and open. Nothing was charged.`,
    );
  const job = db.jobs.must(task.jobId);
  db.jobs.update(job.id, { rowsSucceeded: job.rowsSucceeded + succeeded, rowsFailed: job.rowsFailed + failed });
}

/** Once per lease and auditor, for ever; who is no node is nobody's due. */
export function oweAuditors(db: MemoryDatabase, lease: LeaseRef, dues: readonly AuditDue[]): void {
  for (const due of dues) {
    const key = `${leaseKey(lease)}/${due.auditor}`;
    const node = db.nodes.get(due.auditor);
    if (node === undefined || db.auditReceipts.get(key) !== undefined) continue;
    const { task, epoch } = lease;
    db.auditReceipts.insert(key, { ...due, id: db.ground.uuid(), task, epoch, payout: node.payout, paidBy: null });
  }
}

function payDues(db: MemoryDatabase, task: string, fee: Amount): readonly AuditReceiptRow[] {
  if (fee === 0n) return [];
  const waiting = db.auditReceipts.where((due) => due.paidBy === null);
  const own = waiting.filter((due) => due.task === task);
  let left = fee;
  const paid = [...own, ...waiting.filter((due) => due.task !== task)].slice(0, DUES_PER_FEE_MAX).filter((due) => {
    if (due.amount > left) return false;
    left -= due.amount;
    return true;
  });
  for (const due of paid) {
    db.auditReceipts.update(`${leaseKey(due)}/${due.auditor}`, { paidBy: task });
    db.file('settle', { task: due.id });
  }
  return paid;
}

interface Earned {
  readonly lease: LeaseRow;
  readonly job: JobRow;
  readonly payout: string;
  readonly gross: Amount;
  readonly net: Amount;
}

/** The acceptance as claims on an order whose reserved lane still covers it; nothing is promised where none does. */
function issueVouchers(db: MemoryDatabase, earned: Earned, dues: readonly AuditReceiptRow[]): void {
  const [epoch] = db.chainEpochs.where(({ state }) => state === 'open');
  const [book] = db.chainBooks.where(({ isAlive }) => isAlive);
  if (epoch === undefined || book === undefined || BigInt(earned.payout) === 0n) return;
  const order = orderFor(db, earned, epoch.epoch);
  if (order === undefined) return;
  db.chainOrders.update(String(order.order), { spent: order.spent + earned.gross });
  const of = { book: book.book, epoch: epoch.epoch, order: order.order };
  const work = { task: earned.lease.task, kind: 'work' as const, nodeId: earned.lease.nodeId, payee: earned.payout };
  const claims = [
    { ...work, gross: earned.gross, net: earned.net },
    ...dues.map((due) => ({
      task: due.id,
      kind: 'audit' as const,
      nodeId: due.auditor,
      payee: due.payout,
      gross: 0n,
      net: due.amount,
    })),
  ];
  for (const claim of claims.sort((a, b) => (a.payee < b.payee ? -1 : 1))) {
    const sameEpoch = db.vouchers.where((v) => v.epoch === of.epoch && v.payee === claim.payee);
    const cumulative = sameEpoch.filter((v) => v.order === of.order).reduce((sum, v) => sum + v.net, claim.net);
    const total = raiseTotal(db, claim.payee, of.epoch, claim.net);
    db.vouchers.insert(claim.task, {
      ...of,
      ...claim,
      cumulative,
      total,
      receipt: null,
      signature: null,
      isKept: false,
    });
  }
}

function orderFor(db: MemoryDatabase, { job, gross }: Earned, epoch: bigint): ChainOrderRow | undefined {
  const isOwn = (order: ChainOrderRow): boolean => job.trust === 'self-custody' && order.orgId === job.orgId;
  return db.chainOrders
    .where(
      (order) =>
        (order.state === 'open' || (order.state === 'closing' && (order.closeEpoch ?? 0n) >= epoch)) &&
        (order.isOperator || isOwn(order)) &&
        order.spent + gross <= order.reserved,
    )
    .sort((a, b) => Number(a.isOperator) - Number(b.isOperator) || a.order - b.order)[0];
}

function raiseTotal(db: MemoryDatabase, payee: string, epoch: bigint, net: Amount): Amount {
  const known = db.chainPayees.get(payee);
  const total = (known?.epoch === epoch ? known.total : 0n) + net;
  db.chainPayees.put(payee, { payee, index: known?.index ?? null, epoch, total });
  return total;
}

/** Queued tasks that are given up, with their rows. */
export function failQueued(
  db: MemoryDatabase,
  tasks: readonly TaskRow[],
  failure: { code: string; message: string },
): number {
  let failed = 0;
  for (const { id, jobId, rowFrom, rowTo } of tasks) {
    if (!moveTask(db, id, 'fail', { why: failure.message })) continue;
    endRows(db, jobId, { from: rowFrom, to: rowTo }, { state: 'failed', ...failure });
    failed += 1;
  }
  return failed;
}
