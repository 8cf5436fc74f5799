import { randomUUID } from 'node:crypto';
import type { AuditDue } from '@freehold/domain';
import type { LeaseRef } from '@freehold/protocol';
import type { Sql } from '../database.ts';

/** Older dues paid out of one fee: acceptance is one transaction, and stays short. */
const DUES_PER_FEE_MAX = 8;
const NOBODY = `0x${'0'.repeat(40)}`;

/** A due that the fee at hand pays now. */
export interface PayableDue {
  readonly id: string;
  readonly node_id: string;
  readonly payout: string;
  readonly amount: bigint;
}

/** Remembers what the auditors of a lease are due: once per lease and auditor, for ever. Auditors that are no nodes (our own engine) are nobody's due. */
export async function oweAuditors(tx: Sql, lease: LeaseRef, dues: readonly AuditDue[]): Promise<void> {
  if (dues.length === 0) return;
  await tx.query(
    `INSERT INTO audit_receipt (id, task_id, epoch, node_id, payout, rows, amount, document)
     SELECT due.id, $1, $2, node.id, node.payout, due.rows, due.amount,
       jsonb_build_object('v', 1, 'kind', 'audit', 'task', due.id, 'epoch', 1, 'audited', jsonb_build_object('task', $1::uuid, 'epoch', $2::int),
         'node', node.id, 'payout', node.payout, 'rows', due.rows, 'charge', due.amount::text, 'fee', '0')
     FROM unnest($3::uuid[], $4::text[], $5::int[], $6::numeric[]) AS due (id, node_id, rows, amount) JOIN node ON node.id = due.node_id
     WHERE node.payout <> $7
     ON CONFLICT (task_id, epoch, node_id) DO NOTHING`,
    [
      lease.task,
      lease.epoch,
      dues.map(() => randomUUID()),
      dues.map(({ auditor }) => auditor),
      dues.map(({ rows }) => rows),
      dues.map(({ amount }) => String(amount)),
      NOBODY,
    ],
  );
}

/**
 * Takes the dues that the fee of an accepted task pays: its own auditors' first, then the oldest that still wait. One that
 * is larger than the fee waits for a larger fee and holds up nobody. Whoever else pays at the same moment takes others.
 */
export async function payDues(tx: Sql, task: string, fee: bigint): Promise<readonly PayableDue[]> {
  if (fee === 0n) return [];
  const waiting = await tx.query<{ id: string; node_id: string; payout: string; amount: string }>(
    `SELECT id, node_id, payout, amount FROM audit_receipt WHERE paid_by IS NULL AND amount <= $3
     ORDER BY task_id <> $1, created_at, id LIMIT $2 FOR UPDATE SKIP LOCKED`,
    [task, DUES_PER_FEE_MAX, String(fee)],
  );
  let left = fee;
  const paid = waiting.flatMap((due) => {
    const amount = BigInt(due.amount);
    if (amount > left) return [];
    left -= amount;
    return [{ ...due, amount }];
  });
  if (paid.length === 0) return [];
  await tx.query(
    `WITH paid AS (UPDATE audit_receipt SET paid_by = $1 WHERE id = ANY($2::uuid[]) AND paid_by IS NULL RETURNING id)
     INSERT INTO outbox (topic, message) SELECT 'settle', jsonb_build_object('task', id) FROM paid`,
    [task, paid.map(({ id }) => id)],
  );
  return paid;
}
