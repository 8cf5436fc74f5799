import { randomUUID } from 'node:crypto';
import { unitsToJson } from '@freehold/domain';
import type { GrantedLease, HeldShard, LeaseWish } from '@freehold/market';
import type { Sql } from '../database.ts';
import { bytesOf, GRANTED_COLUMNS, grantedLease, type GrantedRow } from './lease-rows.ts';

interface Chain {
  readonly rowFrom: number;
  rowTo: number;
}

/**
 * Cuts and leases in one statement. A job's new rows are taken by moving its `next_row` from where the placement saw it
 * to the end of the job's wishes: whoever moves it first has the rows, the other list loses all of that job's cuts.
 * A task that came back is taken by compare-and-set on (id, epoch, queued). Placements know a job as it was read: one that was paused
 * since then gets no lease.
 */
export async function grant(
  sql: Sql,
  wishes: readonly LeaseWish[],
  leaseMs: number,
  shards: readonly HeldShard[] = [],
): Promise<readonly GrantedLease[]> {
  const { chosen, chains } = chainWishes(wishes);
  if (chosen.length === 0) return [];
  const granted = await sql.query<GrantedRow>(GRANT, [
    [...chains.keys()],
    [...chains.values()].map(({ rowFrom }) => rowFrom),
    [...chains.values()].map(({ rowTo }) => rowTo),
    chosen.map(({ taskId }) => taskId ?? randomUUID()),
    chosen.map(({ taskId }) => taskId === null),
    chosen.map(({ epoch, taskId }) => (taskId === null ? 1 : epoch)),
    chosen.map(({ jobId }) => jobId),
    chosen.map(({ rowFrom }) => rowFrom),
    chosen.map(({ rowTo }) => rowTo),
    chosen.map(({ nodeId }) => nodeId),
    chosen.map(({ nonce }) => bytesOf(nonce)),
    chosen.map(({ model }) => model),
    chosen.map(({ digest }) => digest),
    chosen.map(({ engineClass }) => engineClass),
    chosen.map(({ rates }) => JSON.stringify(unitsToJson(rates))),
    leaseMs,
    shards.map(({ no }) => no),
    shards.map(({ epoch }) => epoch),
  ]);
  return granted.map(grantedLease);
}

const GRANT = `
WITH chain AS (
  SELECT * FROM unnest($1::text[], $2::int[], $3::int[]) AS chain (job_id, row_from, row_to)
), wish AS (
  SELECT * FROM unnest($4::uuid[], $5::bool[], $6::int[], $7::text[], $8::int[], $9::int[], $10::text[], $11::bytea[],
    $12::text[], $13::text[], $14::text[], $15::jsonb[])
    AS wish (task_id, is_new, epoch, job_id, row_from, row_to, node_id, nonce, model, model_digest, engine_class, rates)
), fence AS (
  -- Waits for a successor that is taking over, and then finds its epoch.
  SELECT count(*) = cardinality($17::int[]) AS holds FROM (
    SELECT 1 FROM shard JOIN unnest($17::int[], $18::bigint[]) AS held (no, epoch) ON shard.no = held.no AND shard.epoch = held.epoch
    FOR SHARE OF shard
  ) AS held
), moved AS (
  UPDATE job SET next_row = chain.row_to FROM chain, fence
  WHERE fence.holds AND job.id = chain.job_id AND job.next_row = chain.row_from AND chain.row_to <= job.row_count
    AND job.state = 'in_progress' AND job.deadline > clock_timestamp() AND job.paused_at IS NULL
  RETURNING job.id, job.org_id, job.pool_id, job.kind
), cut AS (
  INSERT INTO task (id, job_id, org_id, row_from, row_to, state, epoch, pool_id)
  SELECT wish.task_id, moved.id, moved.org_id, wish.row_from, wish.row_to, 'leased', 1, moved.pool_id
  FROM wish JOIN moved ON moved.id = wish.job_id WHERE wish.is_new
  RETURNING id, job_id, row_from, row_to
), taken AS (
  UPDATE task SET state = 'leased', why = NULL FROM wish, job, fence
  WHERE fence.holds AND NOT wish.is_new AND task.id = wish.task_id AND task.epoch = wish.epoch AND task.state = 'queued'
    AND job.id = task.job_id AND job.state = 'in_progress' AND job.deadline > clock_timestamp() AND job.paused_at IS NULL
  RETURNING task.id, task.job_id, task.row_from, task.row_to
), t AS (
  SELECT * FROM cut UNION ALL SELECT * FROM taken
), l AS (
  INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)
  SELECT t.id, wish.epoch, wish.node_id, t.job_id, wish.nonce, wish.model, wish.model_digest, wish.engine_class, wish.rates,
    CASE WHEN job.kind IN ('chat', 'embedding') THEN 'stream' ELSE 'batch' END,
    clock_timestamp() + $16 * interval '1 millisecond'
  FROM t JOIN wish ON wish.task_id = t.id JOIN job ON job.id = t.job_id
  RETURNING *
)
SELECT ${GRANTED_COLUMNS} FROM l JOIN t ON t.id = l.task_id ORDER BY l.job_id, t.row_from`;

/** One wish per returned task; a job's new rows as one unbroken chain. What does not join up was decided on a stale snapshot. */
function chainWishes(wishes: readonly LeaseWish[]): { chosen: LeaseWish[]; chains: Map<string, Chain> } {
  const chosen: LeaseWish[] = [];
  const chains = new Map<string, Chain>();
  const taken = new Set<string>();
  for (const wish of [...wishes].sort((a, b) => a.rowFrom - b.rowFrom)) {
    if (wish.taskId !== null) {
      if (taken.has(wish.taskId)) continue;
      taken.add(wish.taskId);
    } else {
      const chain = chains.get(wish.jobId);
      if (wish.rowTo <= wish.rowFrom || (chain !== undefined && chain.rowTo !== wish.rowFrom)) continue;
      if (chain === undefined) chains.set(wish.jobId, { rowFrom: wish.rowFrom, rowTo: wish.rowTo });
      else chain.rowTo = wish.rowTo;
    }
    chosen.push(wish);
  }
  return { chosen, chains };
}
