import type { DeadLease } from '@freehold/market';
import { LEASE_MS, STALL_MS } from '@freehold/protocol';
import type { Sql } from '../database.ts';

/** The coordinator ticks every second or two: a silence as long as a lease means that it was dead, stopped, or without a database. */
const AWAY_MS = 10_000;
/** What nodes get to come back after the coordinator was away. */
const GRACE_MS = 30_000;
/** The key in `coordinator` under which the last tick is kept. */
const ALIVE = 'alive';

/**
 * Leases whose clock ran out; kept are those that were extended until half a lease before their term, because their nodes were there. None
 * while the coordinator itself was silent: then it was not the nodes' fault.
 */
export async function expired(sql: Sql, limit: number, stallMs = STALL_MS): Promise<readonly DeadLease[]> {
  const [self] = await sql.query<{ away: boolean }>(
    `SELECT updated_at < clock_timestamp() - $2 * interval '1 millisecond' AS away FROM coordinator WHERE key = $1`,
    [ALIVE, AWAY_MS],
  );
  if (self?.away === true) await forgiveOutage(sql, GRACE_MS);
  return sql.query<DeadLease>(
    `SELECT task_id AS task, epoch, node_id AS "nodeId",
       progressed_at <= clock_timestamp() - $2 * interval '1 millisecond' AS stalled,
       coalesce(yield_by <= clock_timestamp() AND lease_until >= yield_by + $3 * interval '1 millisecond', false) AS kept,
       coalesce(checkpoint_rows > asked_rows, false) AS "signedSince" FROM lease
     WHERE ended_at IS NULL AND committed_at IS NULL AND lease_until < clock_timestamp()
     ORDER BY lease_until LIMIT $1`,
    [limit, stallMs, LEASE_MS / 2],
  );
}

/**
 * Everything that was alive at the last tick gets the outage back, and `graceMs` from now at least to come back in. A coordinator
 * that starts again and again adds nothing to what a dead node has left: one grace after its last start the lease is over. The term
 * of who was asked for its rows moves as the lease's clock does, grace and all: by how far they are apart it is told who was there.
 * Once per outage: the statement itself is the next tick.
 */
export async function forgiveOutage(sql: Sql, graceMs: number): Promise<{ outageMs: number; extended: number }> {
  const [row] = await sql.query<{ outage_ms: number; extended: number }>(
    `WITH last AS (
       SELECT updated_at, clock_timestamp() - updated_at AS outage FROM coordinator WHERE key = $1 FOR NO KEY UPDATE
     ), ticked AS (
       UPDATE coordinator SET updated_at = clock_timestamp() WHERE key = $1
     ), extended AS (
       UPDATE lease SET lease_until = greatest(lease_until + outage, clock_timestamp() + grace), progressed_at = progressed_at + outage,
         yield_by = yield_by + (greatest(lease_until + outage, clock_timestamp() + grace) - lease_until)
       FROM last, (SELECT $2 * interval '1 millisecond' AS grace) AS given
       WHERE ended_at IS NULL AND committed_at IS NULL AND lease_until >= last.updated_at
       RETURNING 1
     )
     SELECT coalesce((SELECT extract(epoch FROM outage) * 1000 FROM last), 0)::float8 AS outage_ms,
       (SELECT count(*) FROM extended)::int AS extended`,
    [ALIVE, graceMs],
  );
  return { outageMs: Math.round(row?.outage_ms ?? 0), extended: row?.extended ?? 0 };
}

export async function heartbeatSelf(sql: Sql): Promise<void> {
  await sql.query(
    `INSERT INTO coordinator (key, value) VALUES ($1, 'true')
     ON CONFLICT (key) DO UPDATE SET updated_at = clock_timestamp()`,
    [ALIVE],
  );
}
