import { feeOf, ledger, unitsToJson, type Amount } from '@freehold/domain';
import type { Acceptance, Accepted } from '@freehold/market';
import type { Database, Sql } from '../database.ts';
import { post } from '../ledger/ledger.ts';
import { oweAuditors, payDues, type PayableDue } from './audit-pay.ts';
import { closeJobs } from './close-jobs.ts';
import { bytesOf } from './lease-rows.ts';
import { fencedBecause } from './progress.ts';
import { issueVouchers } from './voucher.ts';

interface AcceptableLease {
  readonly task_id: string;
  readonly job_id: string;
  readonly org_id: string;
  readonly node_id: string;
  readonly payout: string;
  readonly trust: 'self-custody' | 'operator-credits';
  /** What was left under the cap before this group. */
  readonly headroom: string;
  readonly rates: Record<string, string>;
}

/** One lease of the group with what it costs. */
interface Priced {
  readonly acceptance: Acceptance;
  readonly lease: AcceptableLease;
  readonly charge: Amount;
  readonly fee: Amount;
}

/** Left out of a group, because another holds its job: it has to wait alone. */
export const HELD = 'held';

/** One of several was moved by another at the same moment: none is written, and each is done by itself. */
class GroupBroken extends Error {}

/**
 * The one place where work turns into money: state, receipt, charge, rows, counters, voucher and the next message commit
 * together and wait for the disk, or none of it happened. Two workers may both try; the job's lock puts them in a row and
 * the compare-and-set lets one through. `receipt` has one row per task for ever, so even a bug here cannot bill twice.
 *
 * Several leases share one transaction, and one wait for the disk. All locks of a kind are taken together and in one order
 * (jobs, leases, nodes, accounts, orders, payees; a task is locked under its lease), so that two groups never wait in a circle. A
 * group waits for no job that another holds: such leases are left out, and named.
 */
export async function acceptAll(
  database: Database,
  acceptances: readonly Acceptance[],
  settleMs: number,
): Promise<readonly (Accepted | typeof HELD)[]> {
  return database.transaction(
    async (tx) => {
      const isGroup = acceptances.length > 1;
      const free = await lockForAcceptance(tx, acceptances, isGroup);
      const priced = priceAll(acceptances, free);
      const isFree = new Set(free.map(({ task_id }) => task_id));
      const held = isGroup
        ? await heldOf(
            tx,
            acceptances.filter(({ task }) => !isFree.has(task)),
          )
        : new Set<string>();
      const done = priced.length === 0 ? null : await write(tx, priced, { isGroup, settleMs });
      const outcomes: (Accepted | typeof HELD)[] = [];
      for (const acceptance of acceptances) {
        if (held.has(acceptance.task)) {
          outcomes.push(HELD);
          continue;
        }
        const one = priced.find((candidate) => candidate.acceptance === acceptance);
        outcomes.push(done === null || one === undefined ? await fencedBecause(tx, acceptance) : outcomeOf(one, done));
      }
      return outcomes;
    },
    { durable: true },
  );
}

function outcomeOf({ acceptance, lease, charge, fee }: Priced, { closed, filed }: Done): Accepted {
  const settle = filed.get(acceptance.task);
  const jobDone = closed.has(lease.job_id);
  return { moved: true, charge, fee, jobDone, ...(settle === undefined ? {} : { settle }) };
}

/** Takes the jobs' locks: acceptances of one job go one after the other, because each may only charge what the others left. */
async function lockForAcceptance(
  tx: Sql,
  acceptances: readonly Acceptance[],
  isGroup: boolean,
): Promise<readonly AcceptableLease[]> {
  return tx.query<AcceptableLease>(
    `SELECT t.id AS task_id, l.job_id, t.org_id, l.node_id, node.payout, job.trust, l.rates,
       greatest(0, coalesce(job.cap, 0) - job.charged) AS headroom
     FROM unnest($1::uuid[], $2::int[]) AS claim (task_id, epoch)
     JOIN task t ON t.id = claim.task_id AND t.epoch = claim.epoch
     JOIN lease l ON l.task_id = t.id AND l.epoch = t.epoch JOIN job ON job.id = t.job_id JOIN node ON node.id = l.node_id
     WHERE t.state = 'delivered' AND l.ended_at IS NULL
     ORDER BY job.id FOR NO KEY UPDATE OF job ${isGroup ? 'SKIP LOCKED' : ''}`,
    refsOf(acceptances),
  );
}

/** Those that could be accepted if another did not hold their jobs. */
async function heldOf(tx: Sql, acceptances: readonly Acceptance[]): Promise<ReadonlySet<string>> {
  if (acceptances.length === 0) return new Set();
  const open = await tx.query<{ task_id: string }>(
    `SELECT t.id AS task_id FROM unnest($1::uuid[], $2::int[]) AS claim (task_id, epoch)
     JOIN task t ON t.id = claim.task_id AND t.epoch = claim.epoch JOIN lease l ON l.task_id = t.id AND l.epoch = t.epoch
     WHERE t.state = 'delivered' AND l.ended_at IS NULL`,
    refsOf(acceptances),
  );
  return new Set(open.map(({ task_id }) => task_id));
}

function refsOf(acceptances: readonly Acceptance[]): readonly unknown[] {
  return [acceptances.map(({ task }) => task), acceptances.map(({ epoch }) => epoch)];
}

/** What each costs, in the order given: leases of one job share what is left under its cap. The same lease twice counts once. */
function priceAll(acceptances: readonly Acceptance[], leases: readonly AcceptableLease[]): Priced[] {
  const open = new Map(leases.map((lease) => [lease.task_id, lease]));
  const left = new Map(leases.map((lease) => [lease.job_id, BigInt(lease.headroom)]));
  return acceptances.flatMap((acceptance) => {
    const lease = open.get(acceptance.task);
    if (lease === undefined) return [];
    open.delete(acceptance.task);
    const headroom = left.get(lease.job_id) ?? 0n;
    const charge = acceptance.due < headroom ? acceptance.due : headroom;
    left.set(lease.job_id, headroom - charge);
    return [{ acceptance, lease, charge, fee: feeOf(charge, acceptance.feeBps) }];
  });
}

interface Done {
  /** Jobs that ended with it. */
  readonly closed: ReadonlySet<string>;
  /** Outbox rows of the vouchers, by task, as far as they are the caller's for now. */
  readonly filed: ReadonlyMap<string, string>;
}

/** @returns null when a lease that came alone was moved by another. */
async function write(
  tx: Sql,
  priced: readonly Priced[],
  { isGroup, settleMs }: { readonly isGroup: boolean; readonly settleMs: number },
): Promise<Done | null> {
  const written = await writeAcceptances(tx, priced, settleMs);
  if (written.length < priced.length) {
    if (isGroup) throw new GroupBroken(`${priced.length - written.length} of ${priced.length} leases were moved`);
    return null;
  }
  for (const { acceptance, fee } of priced) await oweAuditors(tx, acceptance, acceptance.audits?.(fee) ?? []);
  const dues = await duesOf(tx, priced);
  // One posting for all: accounts are locked in one order.
  await post(
    tx,
    priced.flatMap(({ acceptance: { task }, lease, charge, fee }) => {
      if (charge === 0n) return [];
      const audits = (dues.get(task) ?? []).map((due) => ledger.auditFee(due.payout, due.amount, due.id));
      return [ledger.charge({ job: lease.job_id, task, payout: lease.payout, charge, fee }), ...audits];
    }),
  );
  await issueVouchers(
    tx,
    priced
      .filter(({ charge, fee }) => charge > fee)
      .map(({ acceptance: { task }, lease, charge, fee }) => ({
        ...{ ...lease, task, gross: charge, net: charge - fee },
        dues: dues.get(task) ?? [],
      })),
  );
  const whole = new Set(written.filter(({ is_whole }) => is_whole).map(({ job_id }) => job_id));
  const filed = settleMs > 0 ? written.map((row): [string, string] => [row.task_id, row.settle]) : [];
  return { closed: new Set(await closeJobs(tx, [...whole].sort())), filed: new Map(filed) };
}

/** What auditors are paid out of each fee, by task. */
async function duesOf(tx: Sql, priced: readonly Priced[]): Promise<ReadonlyMap<string, readonly PayableDue[]>> {
  const dues = new Map<string, readonly PayableDue[]>();
  const isOwed = await tx.query('SELECT 1 FROM audit_receipt WHERE paid_by IS NULL LIMIT 1');
  if (isOwed.length === 0) return dues;
  for (const { acceptance, fee } of priced) dues.set(acceptance.task, await payDues(tx, acceptance.task, fee));
  return dues;
}

const ACCEPT = `
WITH claim AS (
  SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::int[], $6::int[], $7::text[], $8::bytea[], $9::text[],
    $10::jsonb[], $11::jsonb[], $12::numeric[], $13::numeric[], $14::jsonb[])
    AS claim (task_id, epoch, node_id, rows, rows_succeeded, audited, payout, root, draw, usage, rates, charge, fee, document)
), held AS MATERIALIZED (
  SELECT l.task_id, l.epoch FROM claim JOIN lease l USING (task_id, epoch)
  WHERE l.ended_at IS NULL AND l.committed_at IS NOT NULL AND l.checkpoint_root = claim.root
  ORDER BY l.task_id FOR NO KEY UPDATE OF l
), ended AS (
  UPDATE lease l SET ended_at = clock_timestamp(), outcome = 'accepted' FROM held
  WHERE l.task_id = held.task_id AND l.epoch = held.epoch AND l.ended_at IS NULL
  RETURNING l.task_id, l.epoch
), moved AS (
  UPDATE task SET state = 'accepted', ended_at = clock_timestamp() FROM ended
  WHERE task.id = ended.task_id AND task.epoch = ended.epoch AND task.state = 'delivered'
  RETURNING task.id, task.epoch, task.job_id, task.org_id, task.row_from, task.row_to
), landed AS (
  INSERT INTO row_end (job_id, row_no, state, task_id, epoch, result_offset, result_length)
  SELECT moved.job_id, d.row_no, CASE WHEN d.succeeded THEN 'succeeded' ELSE 'failed' END, moved.id, moved.epoch,
    d.segment_offset, d.segment_length
  FROM moved JOIN delivered_row d ON d.task_id = moved.id AND d.epoch = moved.epoch
  WHERE d.row_no >= moved.row_from AND d.row_no < moved.row_to
  ON CONFLICT DO NOTHING RETURNING task_id AS id, state
), tally AS (
  SELECT moved.id, count(*) FILTER (WHERE state = 'succeeded')::int AS succeeded,
    count(*) FILTER (WHERE state = 'failed')::int AS failed
  FROM moved LEFT JOIN landed USING (id) GROUP BY moved.id
), counted AS (
  UPDATE job SET charged = job.charged + sum.charge, rows_succeeded = job.rows_succeeded + sum.succeeded,
    rows_failed = job.rows_failed + sum.failed
  FROM (SELECT moved.job_id, sum(claim.charge) AS charge, sum(tally.succeeded) AS succeeded, sum(tally.failed) AS failed
    FROM moved JOIN claim ON claim.task_id = moved.id JOIN tally USING (id) GROUP BY moved.job_id) AS sum
  WHERE job.id = sum.job_id
  RETURNING job.id, job.rows_succeeded + job.rows_failed + job.rows_ended = job.row_count AS is_whole
), workers AS MATERIALIZED (
  SELECT id FROM node WHERE id IN (SELECT node_id FROM claim) ORDER BY id FOR NO KEY UPDATE
), remembered AS (
  UPDATE node SET rows_accepted = rows_accepted + sum.rows, rows_audited = rows_audited + sum.audited
  FROM workers JOIN (SELECT claim.node_id, sum(claim.rows) AS rows, sum(claim.audited) AS audited
    FROM moved JOIN claim ON claim.task_id = moved.id GROUP BY claim.node_id) AS sum ON sum.node_id = workers.id
  WHERE node.id = workers.id
), written AS (
  INSERT INTO receipt (task_id, epoch, job_id, org_id, node_id, payout, root, rows, rows_succeeded, audited, draw, usage,
    rates, charge, fee, document)
  SELECT moved.id, moved.epoch, moved.job_id, moved.org_id, claim.node_id, claim.payout, claim.root, claim.rows,
    claim.rows_succeeded, claim.audited, claim.draw, claim.usage, claim.rates, claim.charge, claim.fee, claim.document
  FROM moved JOIN claim ON claim.task_id = moved.id
), filed AS (
  INSERT INTO outbox (topic, message, claimed_until)
  SELECT 'settle', jsonb_build_object('task', id), CASE WHEN $15::float8 > 0 THEN clock_timestamp() + $15 * interval '1 ms' END FROM moved
  RETURNING id, (message ->> 'task')::uuid AS task_id
)
SELECT moved.id AS task_id, moved.job_id, counted.is_whole, moved.row_to - moved.row_from AS rows, tally.succeeded, tally.failed,
  filed.id AS settle
FROM moved JOIN tally USING (id) JOIN counted ON counted.id = moved.job_id JOIN filed ON filed.task_id = moved.id`;

interface Written {
  readonly task_id: string;
  readonly job_id: string;
  /** Whether every row of the job has its terminal record now. */
  readonly is_whole: boolean;
  readonly rows: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly settle: string;
}

/** One statement for all of them. @returns those that were not moved by another. */
async function writeAcceptances(tx: Sql, priced: readonly Priced[], settleMs: number): Promise<readonly Written[]> {
  const of = <T>(column: (one: Priced) => T): T[] => priced.map(column);
  const written = await tx.query<Written>(ACCEPT, [
    of(({ acceptance }) => acceptance.task),
    of(({ acceptance }) => acceptance.epoch),
    of(({ lease }) => lease.node_id),
    of(({ acceptance }) => acceptance.rows),
    of(({ acceptance }) => acceptance.rowsSucceeded),
    of(({ acceptance }) => acceptance.audited),
    of(({ lease }) => lease.payout),
    of(({ acceptance }) => bytesOf(acceptance.root)),
    of(({ acceptance }) => acceptance.draw),
    of(({ acceptance }) => JSON.stringify(unitsToJson(acceptance.usage))),
    of(({ lease }) => JSON.stringify(lease.rates)),
    of(({ charge }) => String(charge)),
    of(({ fee }) => String(fee)),
    of(({ acceptance, charge, fee }) => JSON.stringify(acceptance.document(charge, fee))),
    settleMs,
  ]);
  const told = new Map(priced.map(({ acceptance }) => [acceptance.task, acceptance]));
  for (const { task_id: task, rows, succeeded, failed } of written) {
    const acceptance = told.get(task);
    const isRight = rows === acceptance?.rows && succeeded === acceptance.rowsSucceeded && succeeded + failed === rows;
    if (!isRight)
      throw new Error(
        `Task ${task} epoch ${acceptance?.epoch}: accepting ${acceptance?.rows} rows (${acceptance?.rowsSucceeded} succeeded), but ${succeeded} + ${failed} of ${rows} were delivered and open. Nothing was charged; see the task's events.`,
      );
  }
  return written;
}
