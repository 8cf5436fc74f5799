import type { MovedSince, NodeRecord, Remembered, SeenNode } from '@freehold/market';
import type { SignedOffer } from '@freehold/protocol';
import type { Sql } from '../database.ts';
import { isUniqueViolation } from '../database-errors.ts';

/** The caller has checked its signature; here only order, sameness and expiry are judged. */
export async function rememberNode(sql: Sql, node: SignedOffer): Promise<Remembered> {
  try {
    return await remember(sql, node);
  } catch (error) {
    // A newcomer says hello to every process at once. Which of a node's two names the second of them collides by, its id or the address
    // in it, is chance, and ON CONFLICT minds one.
    if (!isUniqueViolation(error, 'node_address_key')) throw error;
    return remember(sql, node);
  }
}

async function remember(sql: Sql, { offer, signature }: SignedOffer): Promise<Remembered> {
  const text = JSON.stringify(offer);
  const kept = await sql.query(
    `INSERT INTO node (id, address, payout, offer, offer_signature, offer_seq, offer_expires_at)
     SELECT $1, $2, $3, $4, $5, $6, to_timestamp($7) WHERE to_timestamp($7) > clock_timestamp()
     ON CONFLICT (id) DO UPDATE SET payout = excluded.payout, offer = excluded.offer,
       offer_signature = excluded.offer_signature, offer_seq = excluded.offer_seq,
       offer_expires_at = excluded.offer_expires_at, last_seen_at = clock_timestamp()
     WHERE node.offer_seq < excluded.offer_seq OR (node.offer_seq = excluded.offer_seq AND node.offer = excluded.offer)
     RETURNING id`,
    [offer.node, offer.address, offer.payout, text, signature, offer.seq, offer.expiresAt],
  );
  if (kept.length > 0) return { accepted: true };
  const [known] = await sql.query<KnownOffer>(
    `SELECT offer_seq, to_timestamp($2) > clock_timestamp() AS fresh
     FROM (SELECT (SELECT offer_seq FROM node WHERE id = $1) AS offer_seq) AS known`,
    [offer.node, offer.expiresAt],
  );
  return refusal(known, offer);
}

interface KnownOffer {
  readonly offer_seq: string | null;
  readonly fresh: boolean;
}

function refusal(known: KnownOffer | undefined, offer: SignedOffer['offer']): Extract<Remembered, { accepted: false }> {
  if (known?.fresh === false) {
    const expired = new Date(offer.expiresAt * 1_000).toISOString();
    return {
      accepted: false,
      code: 'expired',
      why: `The offer expired at ${expired} by the coordinator's clock: send a new one, and check yours.`,
    };
  }
  if (known?.offer_seq === String(offer.seq)) {
    return {
      accepted: false,
      code: 'conflicting',
      why: `Offer ${offer.seq} is known with another content: the same seq carries the same offer, every change needs a higher one.`,
    };
  }
  return {
    accepted: false,
    code: 'overtaken',
    why: `Offer ${offer.seq} is not newer than offer ${known?.offer_seq ?? '?'} that is known: every change needs a higher seq.`,
  };
}

/**
 * One statement for all: 0.11 s for 5,000 nodes, on a core shared with others. A word counts by when the node was heard of and not by
 * when it is said, so that a process which slept, or has lost its shards since, brings nobody back. Locks in the order of the key, as
 * every other statement over several nodes.
 */
export async function saw(sql: Sql, nodes: readonly SeenNode[]): Promise<void> {
  if (nodes.length === 0) return;
  await sql.query(
    `WITH later AS MATERIALIZED (
       SELECT node.id, said.at
       FROM (SELECT id, clock_timestamp() - ago * interval '1 millisecond' AS at FROM unnest($1::text[], $2::float8[]) AS heard (id, ago)) AS said
       JOIN node USING (id)
       WHERE node.last_seen_at < said.at
       ORDER BY node.id FOR NO KEY UPDATE OF node
     )
     UPDATE node SET last_seen_at = later.at FROM later WHERE node.id = later.id`,
    [nodes.map(({ nodeId }) => nodeId), nodes.map(({ agoMs }) => agoMs)],
  );
}

/** Models measured per node: a node that keeps renaming its models starts anew. */
const SPEEDS_MAX = 64;

export async function rememberSpeed(sql: Sql, nodeId: string, digest: string, rowsPerSecond: number): Promise<void> {
  await sql.query(
    `UPDATE node SET speed = jsonb_build_object($2::text, $3::float8) ||
       CASE WHEN speed ? $2 OR (SELECT count(*) FROM jsonb_object_keys(speed)) < $4 THEN speed - $2::text ELSE '{}' END
     WHERE id = $1`,
    [nodeId, digest, rowsPerSecond, SPEEDS_MAX],
  );
}

/** Numbers are given before their rows are committed: one may appear behind so many younger ones. */
const NUMBERS_OVERLAP = 256;
/** Of the log of moves, in which lines that were seen before cost a look at their transaction and nothing else. */
const LINES_OVERLAP = 4_096;

/**
 * Whose tasks moved, and which jobs: the log of moves is written by the database itself, whoever moved them; a job that starts, goes
 * on or gets rows back files work for the placement. The cursor is the newest of both, and which transactions were seen.
 */
export async function moved(sql: Sql, cursor: string | null): Promise<MovedSince> {
  const [event = null, filed = null, seen = null] = cursor?.split(' ') ?? [];
  const [row] = await sql.query<MovedRow>(
    `WITH line AS (
       SELECT task_ids, job_id FROM task_event
       WHERE $1::bigint IS NOT NULL AND id > $1::bigint - $4 AND NOT pg_visible_in_snapshot(xact, $3::pg_snapshot)
     ), place AS (
       SELECT id, message ->> 'job' AS job_id FROM outbox
       WHERE $2::bigint IS NOT NULL AND id > $2::bigint - $5 AND topic = 'place' AND message ->> 'job' IS NOT NULL
     )
     SELECT (SELECT coalesce(max(id), 0) FROM task_event)::text AS event,
       (SELECT coalesce(max(id), 0) FROM outbox)::text AS filed,
       pg_current_snapshot()::text AS seen,
       ARRAY(SELECT DISTINCT lease.node_id FROM line, unnest(task_ids) AS task_id JOIN lease USING (task_id)) AS nodes,
       ARRAY(SELECT DISTINCT job_id FROM line) AS jobs,
       ARRAY(SELECT place.id::text FROM place ORDER BY place.id) AS place_ids,
       ARRAY(SELECT job_id FROM place ORDER BY place.id) AS place_jobs`,
    [event, filed, seen, LINES_OVERLAP, NUMBERS_OVERLAP],
  );
  const next = `${row?.event ?? '0'} ${row?.filed ?? '0'} ${row?.seen ?? ''}`;
  const jobs = row?.place_jobs ?? [];
  const place = (row?.place_ids ?? []).map((outboxId, i) => ({ outboxId, jobId: jobs[i] ?? '' }));
  return { cursor: next, nodeIds: row?.nodes ?? [], jobIds: row?.jobs ?? [], filed: place };
}

interface MovedRow {
  readonly event: string;
  readonly filed: string;
  readonly seen: string;
  readonly nodes: string[];
  readonly jobs: string[];
  readonly place_ids: string[];
  readonly place_jobs: string[];
}

interface RecordRow {
  readonly id: string;
  readonly payout: string;
  readonly rows_accepted: string;
  readonly rows_audited: string;
  readonly rows_bad: string;
  readonly leases_lost: string;
  readonly benched_for_ms: number;
  readonly benched_why: string | null;
  readonly speed: Record<string, number>;
  readonly rows_in_flight: number;
  readonly leases_in_flight: number;
}

/**
 * Leases in flight are those of batches that still use the node: chats have slots of their own. Rows in flight are of both
 * roads, also those that wait for their verdict.
 */
export async function nodeRecords(sql: Sql, nodeIds: readonly string[]): Promise<ReadonlyMap<string, NodeRecord>> {
  const rows = await sql.query<RecordRow>(
    `SELECT node.id, payout, rows_accepted, rows_audited, rows_bad, leases_lost, benched_why, speed,
       greatest(0, coalesce(extract(epoch FROM benched_until - clock_timestamp()) * 1000, 0))::float8 AS benched_for_ms,
       coalesce(flight.rows, 0)::int AS rows_in_flight, coalesce(flight.leases, 0)::int AS leases_in_flight
     FROM node
     LEFT JOIN LATERAL (
       SELECT sum(t.row_to - t.row_from) AS rows, count(*) FILTER (WHERE l.committed_at IS NULL AND l.road = 'batch') AS leases
       FROM lease l JOIN task t ON t.id = l.task_id
       WHERE l.node_id = node.id AND l.ended_at IS NULL
     ) AS flight ON true
     WHERE node.id = ANY($1)`,
    [nodeIds],
  );
  return new Map(rows.map((row) => [row.id, nodeRecord(row)]));
}

function nodeRecord(row: RecordRow): NodeRecord {
  return {
    nodeId: row.id,
    payout: row.payout,
    rowsAccepted: Number(row.rows_accepted),
    rowsAudited: Number(row.rows_audited),
    rowsBad: Number(row.rows_bad),
    leasesLost: Number(row.leases_lost),
    benchedForMs: Math.ceil(row.benched_for_ms),
    benchedWhy: row.benched_for_ms > 0 ? row.benched_why : null,
    speed: row.speed,
    rowsInFlight: row.rows_in_flight,
    leasesInFlight: row.leases_in_flight,
  };
}
