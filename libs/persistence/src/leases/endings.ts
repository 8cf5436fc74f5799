import { HOPELESS_ATTEMPTS, HOPELESS_CODES, runFailure, type JobKind } from '@freehold/domain';
import type { LeaseRef } from '@freehold/protocol';
import type { Database, Sql } from '../database.ts';
import { closeJobs, lockJobs } from './close-jobs.ts';
import { commitAtCheckpoint, failQueued } from './give-back.ts';
import { cancelUncovered } from './uncovered.ts';

/** How long delivered rows of an expired or cancelled job may wait for their verdict; OpenAI's cancelling takes "up to 10 minutes". */
export const VERDICT_GRACE_MS = 600_000;
/** Jobs ended and tasks failed in one transaction: bounds the locks, the next tick goes on. */
const JOBS_PER_TICK = 50;
const TASKS_PER_TICK = 200;

interface EndingJob {
  readonly id: string;
  readonly state: 'in_progress' | 'cancelling';
  readonly is_late: boolean;
  /** Why it ends, where it was not its requester who said so. */
  readonly why: string | null;
}

/**
 * Ends what is past its deadline, cancelled, or not covered by an order any more. Idle tasks end; running ones keep the rows of their last checkpoint, which
 * the node has earned; delivered ones are left to their verdict for {@link VERDICT_GRACE_MS}; all other rows get their
 * terminal record. When nothing is in flight the job closes. Runs again every tick until then.
 *
 * @returns jobs that were closed now.
 */
export async function expireJobs(database: Database): Promise<readonly string[]> {
  await expireValidating(database);
  await cancelUncovered(database);
  return database.transaction(async (tx) => {
    const jobs = await tx.query<EndingJob>(
      `SELECT id, state, errors -> 0 ->> 'message' AS why,
         clock_timestamp() > coalesce(cancelling_at, deadline) + $1 * interval '1 millisecond' AS is_late
       FROM job WHERE state = 'cancelling' OR (state = 'in_progress' AND deadline < clock_timestamp())
       ORDER BY deadline, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED`,
      [VERDICT_GRACE_MS, JOBS_PER_TICK],
    );
    if (jobs.length === 0) return [];
    for (const why of new Set(jobs.map(reasonOf)))
      await endWork(
        tx,
        jobs.filter((job) => reasonOf(job) === why),
        why,
      );
    return closeJobs(
      tx,
      jobs.map(({ id }) => id),
    );
  });
}

/** A batch that was never validated has no price, no hold and no rows that anybody was promised. */
async function expireValidating(database: Database): Promise<void> {
  await database.transaction(async (tx) => {
    const expired = await tx.query<{ id: string }>(
      `UPDATE job SET state = 'expired', expired_at = clock_timestamp()
       WHERE state = 'validating' AND deadline < clock_timestamp() RETURNING id`,
    );
    // A statement of its own sees what a validation committed while the first waited for its jobs.
    if (expired.length > 0)
      await tx.query('DELETE FROM row_block WHERE job_id = ANY($1)', [expired.map(({ id }) => id)]);
  });
}

function reasonOf({ state, why }: EndingJob): string {
  return state === 'cancelling' ? (why ?? 'the job was cancelled') : 'the job is past its completion window';
}

/** Jobs of one state and one reason. */
async function endWork(tx: Sql, ended: readonly EndingJob[], why: string): Promise<void> {
  const ending = ended.some(({ state }) => state === 'cancelling') ? 'cancelled' : 'expired';
  const jobs = ended.map(({ id }) => id);
  const late = ended.filter(({ is_late }) => is_late).map(({ id }) => id);
  const open = await tx.query<LeaseRef & { readonly keeps: boolean }>(
    `SELECT l.task_id AS task, l.epoch, l.checkpoint_rows > 0 AND l.committed_at IS NULL AS keeps
     FROM lease l JOIN task t ON t.id = l.task_id AND t.epoch = l.epoch
     WHERE t.job_id = ANY($1) AND l.ended_at IS NULL
       AND (t.state IN ('leased', 'running') OR (t.state = 'delivered' AND t.job_id = ANY($2)))
     ORDER BY l.task_id FOR NO KEY UPDATE OF l`,
    [jobs, late],
  );
  const keeping = open.filter(({ keeps }) => keeps);
  if (keeping.length > 0) await commitAtCheckpoint(tx, keeping, why);
  const dropped = open.filter(({ keeps }) => !keeps);
  await tx.query(
    `UPDATE lease l SET ended_at = clock_timestamp(), outcome = $3, why = $4
     FROM unnest($1::uuid[], $2::int[]) AS ref (task_id, epoch)
     WHERE l.task_id = ref.task_id AND l.epoch = ref.epoch AND l.ended_at IS NULL`,
    [dropped.map(({ task }) => task), dropped.map(({ epoch }) => epoch), ending, why],
  );
  await tx.query(
    `UPDATE task SET state = $2, ended_at = clock_timestamp(), why = $3
     WHERE job_id = ANY($1) AND (state = 'queued' OR id = ANY($4::uuid[]))
       AND state IN ('queued', 'leased', 'running', 'delivered')`,
    [jobs, ending, why, dropped.map(({ task }) => task)],
  );
  await endRows(tx, jobs, ending, why);
}

/** Rows without an end, of the jobs $1: their rows are locked. Jobs of which all have ended are not looked through again at each tick. */
const OPEN_ROWS = `
  SELECT job.id AS job_id, line.row_no FROM job, generate_series(0, job.row_count - 1) AS line (row_no)
  WHERE job.id = ANY($1) AND job.rows_succeeded + job.rows_failed + job.rows_ended < job.row_count
    AND NOT EXISTS (SELECT 1 FROM row_end ended WHERE ended.job_id = job.id AND ended.row_no = line.row_no)`;

/** Row by row, to be found by equality: compared as ranges, 50,000 rows and 2,000 delivered tasks took longer than a statement may. */
const ROWS_IN_VERDICT = `
  SELECT job_id, generate_series(row_from, row_to - 1) AS row_no FROM task WHERE job_id = ANY($1) AND state = 'delivered'`;

/** Rows that nobody will answer any more: not done, and not under a delivered task that waits for its verdict. */
async function endRows(tx: Sql, jobs: readonly string[], ending: 'cancelled' | 'expired', why: string): Promise<void> {
  await tx.query(
    `WITH ended AS (
       INSERT INTO row_end (job_id, row_no, state, error_code, error_message)
       SELECT r.job_id, r.row_no, $2, 'batch_' || $2, $3 FROM (${OPEN_ROWS}) AS r
       WHERE NOT EXISTS (SELECT 1 FROM (${ROWS_IN_VERDICT}) AS waits WHERE waits.job_id = r.job_id AND waits.row_no = r.row_no)
       ON CONFLICT DO NOTHING RETURNING job_id
     )
     UPDATE job SET rows_ended = rows_ended + tally.n, next_row = row_count
     FROM (SELECT job_id, count(*)::int AS n FROM ended GROUP BY job_id) AS tally WHERE job.id = tally.job_id`,
    [jobs, ending, why],
  );
}

interface WornTask {
  readonly id: string;
  readonly job_id: string;
  readonly attempts: number;
  readonly why: string | null;
  readonly kind: JobKind;
}

/** Segments stand on each other: when one is given up, none after it can be trained. */
async function failRun(tx: Sql, task: WornTask): Promise<void> {
  const failure = runFailure(task.attempts, task.why);
  const queued = await tx.query<{ id: string }>(`SELECT id FROM task WHERE job_id = $1 AND state = 'queued'`, [
    task.job_id,
  ]);
  await failQueued(
    tx,
    queued.map(({ id }) => id),
    failure,
  );
  await tx.query(
    `WITH failed AS (
       INSERT INTO row_end (job_id, row_no, state, error_code, error_message)
       SELECT job_id, row_no, 'failed', $2, $3 FROM (${OPEN_ROWS}) AS r
       ON CONFLICT DO NOTHING RETURNING 1
     )
     UPDATE job SET rows_failed = rows_failed + (SELECT count(*)::int FROM failed), next_row = row_count WHERE id = ANY($1)`,
    [[task.job_id], failure.code, failure.message],
  );
}

/** Tasks whose leases died again and again fail with a reason, so that one poisonous row never blocks a job for ever. */
export async function failPoison(database: Database, attemptsMax: number): Promise<number> {
  return database.transaction(async (tx) => {
    const worn = await tx.query<WornTask>(
      `SELECT task.id, job_id, attempts, why, job.kind FROM task JOIN job ON job.id = task.job_id
       WHERE task.state = 'queued' AND attempts > 0
         AND (attempts >= $1 OR (job.kind = 'fine-tune' AND attempts >= $3 AND why ~ $4)) ORDER BY task.id LIMIT $2`,
      [attemptsMax, TASKS_PER_TICK, HOPELESS_ATTEMPTS, `^(${HOPELESS_CODES.join('|')}):`],
    );
    if (worn.length === 0) return 0;
    const jobs = [...new Set(worn.map(({ job_id }) => job_id))];
    await lockJobs(tx, jobs);
    const failed = await failQueued(
      tx,
      worn.filter(({ kind }) => kind !== 'fine-tune').map(({ id }) => id),
      { code: 'attempts_exhausted', message: `gave up after ${attemptsMax} attempts that were lost or rejected` },
    );
    const runs = worn.filter(({ kind }) => kind === 'fine-tune');
    for (const task of runs) await failRun(tx, task);
    await closeJobs(tx, jobs);
    return failed + runs.length;
  });
}
