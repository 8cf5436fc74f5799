import { nextState, TASK_EVENTS, TASK_STATES } from '@freehold/domain';
import { type DoctorCheck, sqlCheck } from './check.ts';

/** Every move that the state machine of tasks allows, as SQL values; born queued, or cut and leased in one move. */
const LEGAL_MOVES = [
  `(NULL, 'queued')`,
  `(NULL, 'leased')`,
  ...TASK_STATES.flatMap((from) =>
    TASK_EVENTS.flatMap((event) => {
      const to = nextState(from, event);
      return to === null ? [] : [`('${from}', '${to}')`];
    }),
  ),
].join(', ');

const FINAL_JOB = `('completed', 'failed', 'expired', 'cancelled')`;
const OPEN_TASK = `('queued', 'leased', 'running', 'delivered')`;

/** Jobs, rows, tasks, leases and messages: nothing is stuck, nothing is there twice, nothing moved as it may not. */
export const WORK_CHECKS: readonly DoctorCheck[] = [
  sqlCheck(
    'task-without-a-way',
    'every task that is not over has somebody or something that moves it on',
    `SELECT 'task ' || t.id || ' is ' || t.state || ' though job ' || job.id || ' is ' || job.state AS what
     FROM task t JOIN job ON job.id = t.job_id WHERE t.state IN ${OPEN_TASK} AND job.state IN ${FINAL_JOB}
     UNION ALL
     SELECT 'task ' || t.id || ' is ' || t.state || ' in epoch ' || t.epoch || ' without an open lease of that epoch'
     FROM task t WHERE t.state IN ('leased', 'running', 'delivered') AND NOT EXISTS (
       SELECT 1 FROM lease l WHERE l.task_id = t.id AND l.epoch = t.epoch AND l.ended_at IS NULL)
     UNION ALL
     SELECT 'task ' || t.id || ' waits for its verdict and no message asks for it'
     FROM task t JOIN lease l ON l.task_id = t.id AND l.epoch = t.epoch, given
     WHERE t.state = 'delivered' AND l.committed_at < clock_timestamp() - given.stuck AND NOT EXISTS (
       SELECT 1 FROM outbox WHERE topic = 'verify' AND done_at IS NULL AND message ->> 'task' = t.id::text
         AND (message ->> 'epoch')::int = t.epoch)`,
  ),
  sqlCheck(
    'job-without-a-way',
    'every job that is not over has rows to work on, or a message that moves it on',
    `SELECT 'job ' || job.id || ' is in progress though all its ' || row_count || ' rows are over' AS what
     FROM job WHERE state = 'in_progress' AND row_count > 0 AND rows_succeeded + rows_failed + rows_ended = row_count
       AND NOT EXISTS (SELECT 1 FROM task WHERE task.job_id = job.id AND task.state IN ${OPEN_TASK})
     UNION ALL
     SELECT 'job ' || job.id || ' is in progress, all rows are cut, none is in flight, and not all are over'
     FROM job, given WHERE state = 'in_progress' AND next_row = row_count AND deadline > clock_timestamp()
       AND rows_succeeded + rows_failed + rows_ended < row_count
       AND NOT EXISTS (SELECT 1 FROM task WHERE task.job_id = job.id AND task.state IN ${OPEN_TASK})
     UNION ALL
     SELECT 'job ' || job.id || ' is ' || state || ' and no message moves it on'
     FROM job, given WHERE state IN ('validating', 'finalizing')
       AND coalesce(finalizing_at, created_at) < clock_timestamp() - given.stuck
       AND NOT EXISTS (SELECT 1 FROM outbox WHERE done_at IS NULL AND message ->> 'job' = job.id
         AND topic = CASE state WHEN 'validating' THEN 'validate' ELSE 'finalize' END)
     UNION ALL
     SELECT 'job ' || job.id || ' is being cancelled since ' || cancelling_at || ' and nothing of it waits for a verdict'
     FROM job, given WHERE state = 'cancelling' AND cancelling_at < clock_timestamp() - given.stuck
       AND NOT EXISTS (SELECT 1 FROM task WHERE task.job_id = job.id AND task.state = 'delivered')`,
  ),
  sqlCheck(
    'lease-unreaped',
    'a lease whose clock ran out is taken back within a minute',
    `SELECT 'lease ' || l.task_id || '.' || l.epoch || ' of node ' || l.node_id || ' ran out at ' || l.lease_until AS what
     FROM lease l, given WHERE l.ended_at IS NULL AND l.committed_at IS NULL AND l.lease_until < clock_timestamp() - given.stuck`,
  ),
  sqlCheck(
    'row-without-one-end',
    'each custom_id of a job that is over has exactly one terminal record',
    `SELECT 'job ' || job.id || ' is ' || job.state || ' with ' || count(*) || ' rows that have no end' AS what
     FROM job JOIN job_row r ON r.job_id = job.id AND r.state = 'pending' WHERE job.state IN ${FINAL_JOB}
     GROUP BY job.id, job.state
     UNION ALL
     SELECT 'job ' || job_id || ' has ' || count(*) || ' rows for custom_id ' || custom_id
     FROM job_row GROUP BY job_id, custom_id HAVING count(*) > 1
     UNION ALL
     SELECT 'row ' || e.row_no || ' of job ' || e.job_id || ' has an end, and was never asked for'
     FROM row_end e LEFT JOIN (
       SELECT job_id, max(row_from + cardinality(custom_ids)) AS rows FROM row_block GROUP BY job_id) AS b USING (job_id)
     WHERE e.row_no >= coalesce(b.rows, 0)
     UNION ALL
     SELECT 'job ' || job.id || ' has ' || coalesce(b.rows, 0) || ' rows from ' || coalesce(b.first, 0) || ' to ' || coalesce(b.past, 0)
       || ' where ' || job.row_count || ' were asked for'
     FROM job LEFT JOIN (
       SELECT job_id, sum(cardinality(custom_ids)) AS rows, min(row_from) AS first, max(row_from + cardinality(custom_ids)) AS past
       FROM row_block GROUP BY job_id) AS b ON b.job_id = job.id
     WHERE job.state <> 'validating' AND (coalesce(b.rows, 0), coalesce(b.first, 0), coalesce(b.past, 0))
       IS DISTINCT FROM (job.row_count::bigint, 0, job.row_count)`,
  ),
  sqlCheck(
    'row-counters',
    'a job counts exactly the rows that are over',
    `SELECT 'job ' || job.id || ' counts ' || rows_succeeded || '/' || rows_failed || '/' || rows_ended || ', its rows say '
       || r.succeeded || '/' || r.failed || '/' || r.ended AS what
     FROM job JOIN LATERAL (
       SELECT count(*) FILTER (WHERE state = 'succeeded') AS succeeded, count(*) FILTER (WHERE state = 'failed') AS failed,
         count(*) FILTER (WHERE state IN ('expired', 'cancelled')) AS ended
       FROM row_end WHERE job_id = job.id) AS r ON true
     WHERE (rows_succeeded, rows_failed, rows_ended) IS DISTINCT FROM (r.succeeded, r.failed, r.ended)`,
  ),
  sqlCheck(
    'row-under-wrong-lease',
    'a row with a result has it from an accepted lease over that row',
    `SELECT 'row ' || r.row_no || ' of job ' || r.job_id || ' has its result from ' || r.task_id || '.' || r.epoch
       || ', which was not accepted for it' AS what
     FROM row_end r WHERE r.task_id IS NOT NULL AND NOT EXISTS (
       SELECT 1 FROM lease l JOIN task t ON t.id = l.task_id
       WHERE l.task_id = r.task_id AND l.epoch = r.epoch AND l.outcome = 'accepted' AND t.job_id = r.job_id
         AND t.row_from <= r.row_no AND r.row_no < t.row_to)`,
  ),
  sqlCheck(
    'outbox-stuck',
    'a message is handed to the queue within a minute',
    `SELECT 'message ' || id || ' (' || topic || ' ' || message || ') waits since ' || created_at AS what
     FROM outbox, given WHERE sent_at IS NULL AND done_at IS NULL
       AND greatest(created_at, not_before) < clock_timestamp() - given.stuck`,
  ),
  sqlCheck(
    'idempotency-two-jobs',
    'one idempotency key means one job, of the same org',
    `SELECT 'key ' || key || ' of ' || org_id || ' stands for ' || count(DISTINCT subject) || ' subjects' AS what
     FROM idempotency GROUP BY org_id, key HAVING count(DISTINCT subject) > 1
     UNION ALL
     SELECT 'key ' || i.key || ' of ' || i.org_id || ' stands for job ' || job.id || ' of ' || job.org_id
     FROM idempotency i JOIN job ON job.id = i.subject WHERE job.org_id <> i.org_id`,
  ),
  sqlCheck(
    'illegal-transition',
    'tasks moved only as their state machine allows, each return to the queue under the next epoch',
    `SELECT 'task ' || task_id || ' went from ' || coalesce(from_state, 'nothing') || ' (epoch ' || coalesce(epoch_before, 0)
       || ') to ' || to_state || ' (epoch ' || epoch || ')' AS what
     FROM (SELECT *, lag(to_state) OVER moves AS state_before, lag(epoch) OVER moves AS epoch_before
       FROM task_event, unnest(task_ids) AS task_id WINDOW moves AS (PARTITION BY task_id ORDER BY id)) AS e
     WHERE NOT EXISTS (SELECT 1 FROM (VALUES ${LEGAL_MOVES}) AS legal (a, b)
         WHERE legal.a IS NOT DISTINCT FROM e.from_state AND legal.b = e.to_state)
       OR e.from_state IS DISTINCT FROM e.state_before
       OR e.epoch <> coalesce(e.epoch_before, 1) + CASE WHEN e.to_state = 'queued' AND e.from_state IS NOT NULL THEN 1 ELSE 0 END`,
  ),
  sqlCheck(
    'move-not-logged',
    'a task is where its last event says',
    `SELECT 'task ' || t.id || ' is ' || t.state || ' in epoch ' || t.epoch || ', its log ends with ' || coalesce(e.to_state || ' in epoch ' || e.epoch, 'nothing') AS what
     FROM task t LEFT JOIN (
       SELECT DISTINCT ON (task_id) task_id, job_id, to_state, epoch
       FROM task_event, unnest(task_ids) AS task_id ORDER BY task_id, id DESC) AS e ON e.task_id = t.id AND e.job_id = t.job_id
     WHERE (t.state, t.epoch) IS DISTINCT FROM (e.to_state, e.epoch)`,
  ),
  sqlCheck(
    'refers-to-nothing',
    'rows, tasks and leases find what they were written for',
    `SELECT 'row ' || r.row_no || ' is of job ' || r.job_id || ', which is not there' AS what
     FROM (SELECT job_id, row_from AS row_no FROM row_block UNION ALL SELECT job_id, row_no FROM row_end) r
     WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.id = r.job_id)
     UNION ALL
     SELECT 'task ' || t.id || ' is of job ' || t.job_id || ', which is not there'
     FROM task t WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.id = t.job_id)
     UNION ALL
     SELECT 'task ' || t.id || ' was last with node ' || t.last_node || ', which is not there'
     FROM task t WHERE t.last_node IS NOT NULL AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = t.last_node)
     UNION ALL
     SELECT 'lease ' || l.task_id || '.' || l.epoch || ' has no task'
     FROM lease l WHERE NOT EXISTS (SELECT 1 FROM task t WHERE t.id = l.task_id)
     UNION ALL
     SELECT 'lease ' || l.task_id || '.' || l.epoch || ' is of node ' || l.node_id || ', which is not there'
     FROM lease l WHERE NOT EXISTS (SELECT 1 FROM node WHERE node.id = l.node_id)`,
  ),
  sqlCheck(
    'tenant-mismatch',
    'whatever belongs to a job belongs to the job’s org',
    `SELECT 'task ' || t.id || ' of ' || t.org_id || ' is in job ' || job.id || ' of ' || job.org_id AS what
     FROM task t JOIN job ON job.id = t.job_id WHERE t.org_id <> job.org_id
     UNION ALL
     SELECT 'receipt ' || r.task_id || ' of ' || r.org_id || ' is for job ' || job.id || ' of ' || job.org_id
     FROM receipt r JOIN job ON job.id = r.job_id WHERE r.org_id <> job.org_id
     UNION ALL
     SELECT 'lease ' || l.task_id || '.' || l.epoch || ' names job ' || l.job_id || ', its task is of ' || t.job_id
     FROM lease l JOIN task t ON t.id = l.task_id WHERE l.job_id <> t.job_id
     UNION ALL
     SELECT tx.kind || ' of job ' || job.id || ' of ' || job.org_id || ' touches the balance of ' || a.owner
     FROM ledger_transaction tx JOIN job ON job.id = tx.ref JOIN posting p ON p.transaction_id = tx.id
     JOIN account a ON a.id = p.account_id AND a.kind = 'balance' WHERE tx.kind IN ('hold', 'release') AND a.owner <> job.org_id
     UNION ALL
     SELECT 'voucher of task ' || v.task_id || ' of ' || r.org_id || ' is charged to order ' || v.order_index || ' of ' || o.org_id
     FROM voucher v JOIN receipt r ON r.task_id = v.task_id JOIN chain_order o ON o.book = v.book AND o.order_index = v.order_index
     WHERE NOT o.is_operator AND o.org_id <> r.org_id
     UNION ALL
     SELECT 'file ' || f.id || ' of ' || f.org_id || ' is used by job ' || job.id || ' of ' || job.org_id
     FROM job JOIN file f ON f.id IN (job.input_file_id, job.output_file_id, job.error_file_id) WHERE f.org_id <> job.org_id`,
  ),
  {
    name: 'queue-without-outbox',
    claim: 'the queue holds only what the outbox sent, and the outbox has nothing sent that the queue does not know',
    needs: (facts) => facts.queueEntries !== undefined,
    find: async (sql, facts) => {
      const rows = await sql.query<{ what: string }>(
        `SELECT 'queue entry ' || entry.id || ' has no message' AS what
         FROM unnest($1::bigint[]) AS entry (id) WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = entry.id)
         UNION ALL
         SELECT 'message ' || id || ' (' || topic || ') was sent at ' || sent_at || ', is not done and not in the queue'
         FROM outbox WHERE done_at IS NULL AND sent_at < clock_timestamp() - $2 * interval '1 millisecond' AND id <> ALL ($1::bigint[])
         LIMIT 20`,
        [facts.queueEntries ?? [], facts.stuckAfterMs ?? 60_000],
      );
      return rows.map(({ what }) => what);
    },
  },
];
