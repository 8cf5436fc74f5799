import { unitsToJson } from '@freehold/domain';
import type { GrantedLease, HeldShard, LeaseWish } from '@freehold/market';
import type { Sql } from '../database.ts';
import { taskIds } from './task-ids.ts';

const NONCE_BYTES = 16;

interface Chain {
  readonly rowFrom: number;
  rowTo: number;
  /** Nodes that its rows go to. */
  readonly nodes: Set<string>;
}

/** A job whose next rows are ours, or a task that came back and is: what their leases are written with. */
interface TakenRow {
  readonly job_id: string;
  readonly kind: string;
  /** Of a job. */
  readonly org_id: string | null;
  readonly pool_id: string | null;
  /** Of a task. */
  readonly task_id: string | null;
  readonly row_from: number | null;
  readonly row_to: number | null;
  readonly now_ms: string;
}

/** A wish that won, and what is written of it beside the wish itself. */
interface Won {
  readonly lease: GrantedLease;
  readonly road: 'batch' | 'stream';
  /** Null for a task that was there before. */
  readonly org: string | null;
  readonly pool: string | null;
}

/**
 * Takes, then writes: inside one transaction. A job's new rows are taken by moving its `next_row` from where the placement saw
 * it to the end of the job's wishes: whoever moves it first has the rows, the other list loses all of that job's cuts.
 * So a gang begins whole or not at all: no list takes its first rows for fewer nodes than it begins on, and none takes a part of them.
 * A task that came back is taken by compare-and-set on (id, epoch, queued). Placements know a job as it was read: one that was paused
 * since then gets no lease.
 */
export async function grant(
  tx: Sql,
  wishes: readonly LeaseWish[],
  leaseMs: number,
  shards?: readonly HeldShard[],
): Promise<readonly GrantedLease[]> {
  const { chosen, chains } = chainWishes(wishes);
  if (chosen.length === 0 || shards?.length === 0) return [];
  const back = chosen.filter(({ taskId }) => taskId !== null);
  const taken = await tx.query<TakenRow>(TAKE, [
    [...chains.keys()],
    [...chains.values()].map(({ rowFrom }) => rowFrom),
    [...chains.values()].map(({ rowTo }) => rowTo),
    back.map(({ taskId }) => taskId),
    back.map(({ epoch }) => epoch),
    shards?.map(({ no }) => no) ?? [],
    shards?.map(({ epoch }) => epoch) ?? [],
    [...chains.values()].map(({ nodes }) => nodes.size),
  ]);
  if (taken.length === 0) return [];
  const won = wonBy(chosen, taken);
  await write(tx, won, leaseMs);
  return won.map(({ lease }) => lease);
}

const TAKE = `
WITH chain AS (
  SELECT * FROM unnest($1::text[], $2::int[], $3::int[], $8::int[]) AS chain (job_id, row_from, row_to, nodes)
), back AS (
  SELECT * FROM unnest($4::uuid[], $5::int[]) AS back (task_id, epoch)
), fence AS (
  -- Waits for a successor that is taking over, and then finds its epoch.
  SELECT count(*) = cardinality($6::int[]) AS holds FROM (
    SELECT 1 FROM shard JOIN unnest($6::int[], $7::bigint[]) AS held (no, epoch) ON shard.no = held.no AND shard.epoch = held.epoch
    FOR SHARE OF shard
  ) AS held
), moved AS (
  UPDATE job SET next_row = chain.row_to FROM chain, fence
  WHERE fence.holds AND job.id = chain.job_id AND job.next_row = chain.row_from AND chain.row_to <= job.row_count
    AND job.state = 'in_progress' AND job.deadline > clock_timestamp() AND job.paused_at IS NULL
    AND (job.gang IS NULL OR job.next_row > 0 OR chain.nodes >= least(job.gang, job.row_count))
  RETURNING job.id, job.org_id, job.pool_id, job.kind
), taken AS (
  UPDATE task SET state = 'leased', why = NULL FROM back, job, fence
  WHERE fence.holds AND task.id = back.task_id AND task.epoch = back.epoch AND task.state = 'queued'
    AND job.id = task.job_id AND job.state = 'in_progress' AND job.deadline > clock_timestamp() AND job.paused_at IS NULL
  RETURNING task.id, task.job_id, task.row_from, task.row_to, job.kind
), mine AS (
  SELECT id AS job_id, kind, org_id, pool_id, NULL::uuid AS task_id, NULL::int AS row_from, NULL::int AS row_to FROM moved
  UNION ALL
  SELECT job_id, kind, NULL, NULL, id, row_from, row_to FROM taken
)
SELECT mine.*, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms FROM mine`;

function wonBy(chosen: readonly LeaseWish[], taken: readonly TakenRow[]): Won[] {
  const jobs = new Map(taken.filter(({ task_id }) => task_id === null).map((row) => [row.job_id, row]));
  const tasks = new Map(taken.map((row) => [row.task_id, row]));
  const fresh = taskIds(chosen.length, Number(taken[0]?.now_ms));
  const won: Won[] = [];
  for (let i = 0; i < chosen.length; i += 1) {
    const wish = chosen[i];
    const row = wish?.taskId === null ? jobs.get(wish.jobId) : tasks.get(wish?.taskId ?? null);
    if (wish === undefined || row === undefined) continue;
    // Property by property: a spread of what is left costs more than the decision.
    const lease: GrantedLease = {
      task: wish.taskId ?? fresh[i] ?? '',
      epoch: wish.taskId === null ? 1 : wish.epoch,
      jobId: row.job_id,
      rowFrom: row.row_from ?? wish.rowFrom,
      rowTo: row.row_to ?? wish.rowTo,
      nodeId: wish.nodeId,
      nonce: wish.nonce,
      model: wish.model,
      digest: wish.digest,
      engineClass: wish.engineClass,
      rates: wish.rates,
    };
    const road = row.kind === 'chat' || row.kind === 'embedding' ? 'stream' : 'batch';
    won.push({ lease, road, org: row.org_id, pool: row.pool_id });
  }
  return won;
}

/** What many leases have in common is sent and read once: `terms` is its number. Nonces are one value, in the order of the list. */
const WRITE = `
WITH won AS (
  SELECT unnest($1::uuid[]) AS task_id, unnest($2::int[]) AS epoch, unnest($3::text[]) AS job_id, unnest($4::text[]) AS org_id,
    unnest($5::text[]) AS pool_id, unnest($6::int[]) AS row_from, unnest($7::int[]) AS row_to, unnest($8::text[]) AS node_id,
    unnest($9::int[]) AS terms, generate_subscripts($9::int[], 1) AS no
), cut AS (
  INSERT INTO task (id, job_id, org_id, row_from, row_to, state, epoch, pool_id)
  SELECT task_id, job_id, org_id, row_from, row_to, 'leased', epoch, pool_id FROM won WHERE org_id IS NOT NULL
)
INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)
SELECT task_id, epoch, node_id, job_id, substring($10::bytea FROM no::int * ${NONCE_BYTES} - ${NONCE_BYTES - 1} FOR ${NONCE_BYTES}),
  ($11::text[])[terms], ($12::text[])[terms], ($13::text[])[terms], ($14::jsonb[])[terms], ($15::text[])[terms],
  clock_timestamp() + $16 * interval '1 millisecond'
FROM won`;

async function write(tx: Sql, won: readonly Won[], leaseMs: number): Promise<void> {
  const { numbers, distinct } = termsOf(won);
  await tx.query(WRITE, [
    won.map(({ lease }) => lease.task),
    won.map(({ lease }) => lease.epoch),
    won.map(({ lease }) => lease.jobId),
    won.map(({ org }) => org),
    won.map(({ pool }) => pool),
    won.map(({ lease }) => lease.rowFrom),
    won.map(({ lease }) => lease.rowTo),
    won.map(({ lease }) => lease.nodeId),
    numbers,
    noncesOf(won),
    distinct.map(({ lease }) => lease.model),
    distinct.map(({ lease }) => lease.digest),
    distinct.map(({ lease }) => lease.engineClass),
    distinct.map(({ lease }) => JSON.stringify(unitsToJson(lease.rates))),
    distinct.map(({ road }) => road),
    leaseMs,
  ]);
}

/** Each lease's number, from 1, among the distinct (model, digest, engine, rates, road). */
function termsOf(won: readonly Won[]): { numbers: number[]; distinct: Won[] } {
  const numberOf = new Map<string, number>();
  const distinct: Won[] = [];
  let before: Won | undefined;
  let number = 0;
  const numbers = won.map((one) => {
    if (before === undefined || !isOnSameTerms(before, one)) {
      const { model, digest, engineClass, rates } = one.lease;
      const key = [model, digest, engineClass, JSON.stringify(unitsToJson(rates)), one.road].join('\n');
      number = numberOf.get(key) ?? distinct.push(one);
      numberOf.set(key, number);
    }
    before = one;
    return number;
  });
  return { numbers, distinct };
}

/** Seen without reading the rates: neighbours are often one job's, on one offer. */
function isOnSameTerms(a: Won, b: Won): boolean {
  const { model, digest, engineClass, rates } = b.lease;
  return (
    a.road === b.road &&
    a.lease.rates === rates &&
    a.lease.model === model &&
    a.lease.digest === digest &&
    a.lease.engineClass === engineClass
  );
}

/** Anything that is no nonce is a bug of the caller, and is refused before it becomes another's in the books. */
function noncesOf(won: readonly Won[]): Buffer {
  const odd = won.find(({ lease }) => lease.nonce.length !== 2 + 2 * NONCE_BYTES || !lease.nonce.startsWith('0x'));
  const nonces = Buffer.from(won.map(({ lease }) => lease.nonce.slice(2)).join(''), 'hex');
  // What is not hexadecimal ends the reading.
  if (odd !== undefined || nonces.length !== won.length * NONCE_BYTES) {
    const seen = odd?.lease.nonce.slice(0, 40) ?? 'one that is not hexadecimal';
    throw new TypeError(`expected nonces of ${NONCE_BYTES} bytes as 0x…, got ${seen}`);
  }
  return nonces;
}

/**
 * One wish per returned task; a job's new rows as one unbroken chain. What does not join up was decided on a stale snapshot. Job
 * by job: neighbours in the indexes.
 */
function chainWishes(wishes: readonly LeaseWish[]): { chosen: LeaseWish[]; chains: Map<string, Chain> } {
  const chosen: LeaseWish[] = [];
  const chains = new Map<string, Chain>();
  const taken = new Set<string>();
  for (const wish of [...wishes].sort(byJobAndRow)) {
    if (wish.taskId !== null) {
      if (taken.has(wish.taskId)) continue;
      taken.add(wish.taskId);
    } else {
      const chain = chains.get(wish.jobId);
      if (wish.rowTo <= wish.rowFrom || (chain !== undefined && chain.rowTo !== wish.rowFrom)) continue;
      if (chain === undefined) {
        const { rowFrom, rowTo, nodeId } = wish;
        chains.set(wish.jobId, { rowFrom, rowTo, nodes: new Set([nodeId]) });
      } else {
        chain.rowTo = wish.rowTo;
        chain.nodes.add(wish.nodeId);
      }
    }
    chosen.push(wish);
  }
  return { chosen, chains };
}

function byJobAndRow(a: LeaseWish, b: LeaseWish): number {
  if (a.jobId !== b.jobId) return a.jobId < b.jobId ? -1 : 1;
  return a.rowFrom - b.rowFrom;
}
