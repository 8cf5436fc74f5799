import type { AuditFinding, Moved, WrongAuditor } from '@freehold/market';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import type { Sql } from '../database.ts';
import { bytesOf } from './lease-rows.ts';
import { ASKED, fencedBecause } from './progress.ts';

export interface SavedDraw {
  readonly lease: LeaseRef;
  readonly seed: string;
  readonly rows: readonly number[];
}

/** Written once: a second draw over the same commitment would be a second try. The same draw again is confirmed. */
export async function saveDraws(sql: Sql, draws: readonly SavedDraw[]): Promise<readonly Moved[]> {
  const saved = await sql.query<{ task_id: string; epoch: number }>(
    `WITH made AS (
       SELECT task_id, epoch, seed, rows::int[] AS rows
       FROM unnest($1::uuid[], $2::int[], $3::bytea[], $4::text[]) AS made (task_id, epoch, seed, rows)
     ), held AS MATERIALIZED (
       SELECT task_id, epoch FROM lease WHERE (task_id, epoch) IN (SELECT task_id, epoch FROM made)
       ORDER BY task_id FOR NO KEY UPDATE
     )
     UPDATE lease l SET draw_seed = made.seed, draw_rows = made.rows FROM made JOIN held USING (task_id, epoch), task t
     WHERE l.task_id = made.task_id AND l.epoch = made.epoch AND t.id = l.task_id AND t.epoch = l.epoch AND t.state = 'delivered'
       AND l.ended_at IS NULL AND (l.draw_rows IS NULL OR (l.draw_seed = made.seed AND l.draw_rows = made.rows))
     RETURNING l.task_id, l.epoch`,
    [
      draws.map(({ lease }) => lease.task),
      draws.map(({ lease }) => lease.epoch),
      draws.map(({ seed }) => bytesOf(seed)),
      draws.map(({ rows }) => `{${rows.join(',')}}`),
    ],
  );
  const moved = new Set(saved.map(({ task_id, epoch }) => `${task_id}.${epoch}`));
  return Promise.all(
    draws.map(async ({ lease }): Promise<Moved> =>
      moved.has(leaseKey(lease)) ? { moved: true } : fencedBecause(sql, lease),
    ),
  );
}

/** The first height that was given for a lease without one. */
export async function fixDrawHeight(sql: Sql, lease: LeaseRef, height: bigint): Promise<bigint> {
  const [fixed] = await sql.query<{ draw_height: string }>(
    `UPDATE lease SET draw_height = coalesce(draw_height, $3) WHERE task_id = $1 AND epoch = $2 RETURNING draw_height`,
    [lease.task, lease.epoch, String(height)],
  );
  if (fixed === undefined) throw new Error(`lease ${lease.task}.${lease.epoch} is not there`);
  return BigInt(fixed.draw_height);
}

export interface SavedFindings {
  readonly lease: LeaseRef;
  readonly findings: readonly AuditFinding[];
}

/** An auditor's first word about a row counts; a repeated message changes nothing. */
export async function saveFindings(sql: Sql, calls: readonly SavedFindings[]): Promise<readonly undefined[]> {
  const all = calls.flatMap(({ lease, findings }) => findings.map((finding) => ({ ...lease, ...finding })));
  if (all.length > 0)
    await sql.query(
      `INSERT INTO audit (task_id, epoch, row_no, auditor, auditor_kind, verdict, same_class, score)
       SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::jsonb[]) AS finding
         (task_id, epoch, row_no, auditor, auditor_kind, verdict, same_class, score)
       ORDER BY task_id, epoch, row_no, auditor
       ON CONFLICT DO NOTHING`,
      [
        all.map(({ task }) => task),
        all.map(({ epoch }) => epoch),
        all.map(({ rowNo }) => rowNo),
        all.map(({ auditor }) => auditor),
        all.map(({ auditorKind }) => auditorKind),
        all.map(({ verdict }) => verdict),
        all.map(({ sameClass }) => sameClass),
        all.map(({ score }) => JSON.stringify(score ?? null)),
      ],
    );
  return calls.map(() => undefined);
}

/** In the order asked. */
export async function findings(sql: Sql, leases: readonly LeaseRef[]): Promise<readonly (readonly AuditFinding[])[]> {
  const rows = await sql.query<AuditFinding & { readonly task_id: string; readonly epoch: number }>(
    `SELECT task_id, epoch, row_no AS "rowNo", auditor, auditor_kind AS "auditorKind", verdict, same_class AS "sameClass", score
     FROM ${ASKED} JOIN audit USING (task_id, epoch)
     ORDER BY row_no, created_at, auditor`,
    [leases.map(({ task }) => task), leases.map(({ epoch }) => epoch)],
  );
  return leases.map(({ task, epoch }) =>
    rows.flatMap(({ task_id, epoch: of, ...finding }) => (task_id === task && of === epoch ? [finding] : [])),
  );
}

/** No work and no audits until the bench is over; a longer one that stands already stays. Ids that are no nodes are nobody's. */
export async function benchAuditors(sql: Sql, wrong: readonly WrongAuditor[], benchMs: number): Promise<void> {
  if (wrong.length === 0) return;
  await sql.query(
    `UPDATE node SET benched_until = greatest(benched_until, clock_timestamp() + $3 * interval '1 millisecond'), benched_why = wrong.why
     FROM unnest($1::text[], $2::text[]) AS wrong (node_id, why) WHERE node.id = wrong.node_id`,
    [wrong.map(({ nodeId }) => nodeId), wrong.map(({ why }) => why), benchMs],
  );
}
