import type { AuditFinding, Moved, WrongAuditor } from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';
import type { Sql } from '../database.ts';
import { bytesOf } from './lease-rows.ts';
import { fencedBecause } from './progress.ts';

/** Written once: a second draw over the same commitment would be a second try. The same draw again is confirmed. */
export async function saveDraw(sql: Sql, lease: LeaseRef, seed: string, rows: readonly number[]): Promise<Moved> {
  const saved = await sql.query(
    `UPDATE lease l SET draw_seed = $3, draw_rows = $4 FROM task t
     WHERE l.task_id = $1 AND l.epoch = $2 AND t.id = l.task_id AND t.epoch = l.epoch AND t.state = 'delivered'
       AND l.ended_at IS NULL AND (l.draw_rows IS NULL OR (l.draw_seed = $3 AND l.draw_rows = $4)) RETURNING 1`,
    [lease.task, lease.epoch, bytesOf(seed), rows],
  );
  return saved.length > 0 ? { moved: true } : fencedBecause(sql, lease);
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

/** An auditor's first word about a row counts; a repeated message changes nothing. */
export async function saveFindings(sql: Sql, lease: LeaseRef, findings: readonly AuditFinding[]): Promise<void> {
  if (findings.length === 0) return;
  await sql.query(
    `INSERT INTO audit (task_id, epoch, row_no, auditor, auditor_kind, verdict, same_class, score)
     SELECT $1, $2, finding.* FROM unnest($3::int[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::jsonb[]) AS finding
     ON CONFLICT DO NOTHING`,
    [
      lease.task,
      lease.epoch,
      findings.map(({ rowNo }) => rowNo),
      findings.map(({ auditor }) => auditor),
      findings.map(({ auditorKind }) => auditorKind),
      findings.map(({ verdict }) => verdict),
      findings.map(({ sameClass }) => sameClass),
      findings.map(({ score }) => JSON.stringify(score ?? null)),
    ],
  );
}

export async function findings(sql: Sql, lease: LeaseRef): Promise<readonly AuditFinding[]> {
  return sql.query<AuditFinding>(
    `SELECT row_no AS "rowNo", auditor, auditor_kind AS "auditorKind", verdict, same_class AS "sameClass", score
     FROM audit WHERE task_id = $1 AND epoch = $2 ORDER BY row_no, created_at, auditor`,
    [lease.task, lease.epoch],
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
