import { feeOf, ledger, unitsToJson, type Amount } from '@freehold/domain';
import type { Acceptance, Moved } from '@freehold/market';
import type { Database, Sql } from '../database.ts';
import { post } from '../ledger/ledger.ts';
import { oweAuditors, payDues } from './audit-pay.ts';
import { closeJobs } from './close-jobs.ts';
import { bytesOf } from './lease-rows.ts';
import { fencedBecause } from './progress.ts';
import { issueVouchers } from './voucher.ts';

export type Accepted = Moved<{ readonly charge: Amount; readonly fee: Amount; readonly jobDone: boolean }>;

interface AcceptableLease {
  readonly job_id: string;
  readonly org_id: string;
  readonly node_id: string;
  readonly payout: string;
  readonly trust: 'self-custody' | 'operator-credits';
  /** What is left under the cap. */
  readonly headroom: string;
  readonly rates: Record<string, string>;
}

/**
 * The one place where work turns into money: state, receipt, charge, rows, counters, voucher and the next message commit
 * together and wait for the disk, or none of it happened. Two workers may both try; the job's lock puts them in a row and
 * the compare-and-set lets one through. `receipt` has one row per task for ever, so even a bug here cannot bill twice.
 */
export async function accept(database: Database, acceptance: Acceptance): Promise<Accepted> {
  return database.transaction(
    async (tx) => {
      const lease = await lockForAcceptance(tx, acceptance);
      if (lease === undefined) return fencedBecause(tx, acceptance);
      const headroom = BigInt(lease.headroom);
      const charge = acceptance.due < headroom ? acceptance.due : headroom;
      const fee = feeOf(charge, acceptance.feeBps);
      const isWholeJob = await writeAcceptance(tx, acceptance, lease, charge, fee);
      if (isWholeJob === null) return fencedBecause(tx, acceptance);
      const { job_id: job, payout } = lease;
      await oweAuditors(tx, acceptance, acceptance.audits?.(fee) ?? []);
      const dues = await payDues(tx, acceptance.task, fee);
      // One posting for all: accounts are locked in one order.
      const entries = dues.map((due) => ledger.auditFee(due.payout, due.amount, due.id));
      const work = { job, task: acceptance.task, payout, charge, fee };
      if (charge > 0n) await post(tx, [ledger.charge(work), ...entries]);
      if (charge > fee)
        await issueVouchers(tx, { ...lease, task: acceptance.task, gross: charge, net: charge - fee }, dues);
      const closed = isWholeJob ? await closeJobs(tx, [job]) : [];
      return { moved: true, charge, fee, jobDone: closed.length > 0 };
    },
    { durable: true },
  );
}

/** Takes the job's lock: acceptances of one job go one after the other, because each may only charge what the others left. */
async function lockForAcceptance(tx: Sql, acceptance: Acceptance): Promise<AcceptableLease | undefined> {
  const [lease] = await tx.query<AcceptableLease>(
    `SELECT l.job_id, t.org_id, l.node_id, node.payout, job.trust, l.rates,
       greatest(0, coalesce(job.cap, 0) - job.charged) AS headroom
     FROM task t JOIN lease l ON l.task_id = t.id AND l.epoch = $2 JOIN job ON job.id = t.job_id
     JOIN node ON node.id = l.node_id
     WHERE t.id = $1 AND t.epoch = $2 AND t.state = 'delivered' AND l.ended_at IS NULL
     FOR NO KEY UPDATE OF job`,
    [acceptance.task, acceptance.epoch],
  );
  return lease;
}

const ACCEPT = `
WITH ended AS (
  UPDATE lease SET ended_at = clock_timestamp(), outcome = 'accepted'
  WHERE task_id = $1 AND epoch = $2 AND ended_at IS NULL AND committed_at IS NOT NULL AND checkpoint_root = $8
  RETURNING task_id, epoch
), moved AS (
  UPDATE task SET state = 'accepted', ended_at = clock_timestamp() FROM ended
  WHERE task.id = ended.task_id AND task.epoch = ended.epoch AND task.state = 'delivered'
  RETURNING task.id, task.epoch, task.job_id, task.org_id, task.row_from, task.row_to
), landed AS (
  UPDATE job_row r SET state = CASE WHEN d.succeeded THEN 'succeeded' ELSE 'failed' END, task_id = moved.id,
    epoch = moved.epoch, result_offset = d.segment_offset, result_length = d.segment_length
  FROM moved JOIN delivered_row d ON d.task_id = moved.id AND d.epoch = moved.epoch
  WHERE r.job_id = moved.job_id AND r.row_no = d.row_no AND r.row_no >= moved.row_from AND r.row_no < moved.row_to
    AND r.state = 'pending'
  RETURNING r.state
), tally AS (
  SELECT count(*) FILTER (WHERE state = 'succeeded')::int AS succeeded, count(*) FILTER (WHERE state = 'failed')::int AS failed
  FROM landed
), counted AS (
  UPDATE job SET charged = charged + $12::numeric, rows_succeeded = rows_succeeded + tally.succeeded,
    rows_failed = rows_failed + tally.failed
  FROM moved, tally WHERE job.id = moved.job_id
  RETURNING job.rows_succeeded + job.rows_failed + job.rows_ended = job.row_count AS is_whole
), remembered AS (
  UPDATE node SET rows_accepted = rows_accepted + $4, rows_audited = rows_audited + $6 FROM moved WHERE node.id = $3
), written AS (
  INSERT INTO receipt (task_id, epoch, job_id, org_id, node_id, payout, root, rows, rows_succeeded, audited, draw, usage,
    rates, charge, fee, document)
  SELECT moved.id, moved.epoch, moved.job_id, moved.org_id, $3, $7, $8, $4, $5, $6, $9, $10, $11, $12::numeric, $13::numeric, $14
  FROM moved
), filed AS (
  INSERT INTO outbox (topic, message) SELECT 'settle', jsonb_build_object('task', id) FROM moved
)
SELECT counted.is_whole, moved.row_to - moved.row_from AS rows, tally.succeeded, tally.failed FROM moved, tally, counted`;

/** @returns whether every row of the job has its terminal record now; null when the task was moved by another. */
async function writeAcceptance(
  tx: Sql,
  acceptance: Acceptance,
  lease: AcceptableLease,
  charge: Amount,
  fee: Amount,
): Promise<boolean | null> {
  const [written] = await tx.query<{ is_whole: boolean; rows: number; succeeded: number; failed: number }>(ACCEPT, [
    acceptance.task,
    acceptance.epoch,
    lease.node_id,
    acceptance.rows,
    acceptance.rowsSucceeded,
    acceptance.audited,
    lease.payout,
    bytesOf(acceptance.root),
    acceptance.draw,
    JSON.stringify(unitsToJson(acceptance.usage)),
    JSON.stringify(lease.rates),
    String(charge),
    String(fee),
    JSON.stringify(acceptance.document(charge, fee)),
  ]);
  if (written === undefined) return null;
  const { rows, succeeded, failed } = written;
  if (rows !== acceptance.rows || succeeded !== acceptance.rowsSucceeded || succeeded + failed !== rows) {
    throw new Error(
      `Task ${acceptance.task} epoch ${acceptance.epoch}: accepting ${acceptance.rows} rows (${acceptance.rowsSucceeded} succeeded), but ${succeeded} + ${failed} of ${rows} were delivered and open. Nothing was charged; see the task's events.`,
    );
  }
  return written.is_whole;
}
