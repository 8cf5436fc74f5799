import type { AcceptanceForNode, KeptTotal, UnkeptAfter, VouchersOf } from '@freehold/market';
import { HELLO_TOTALS_MAX } from '@freehold/protocol';
import type { Database } from '../database.ts';
import { bytesOfHex, hexOf } from './bytes.ts';

export interface AcceptanceRow {
  readonly task_id: string;
  readonly node_id: string;
  readonly document: Record<string, unknown>;
  readonly book: string | null;
  readonly book_epoch: string;
  readonly payee: string;
  readonly order_index: number;
  readonly params: Buffer;
  readonly cumulative: string;
  readonly total: string;
  readonly receipt_hash: Buffer | null;
  readonly signature: Buffer | null;
}

export const ACCEPTANCE = `SELECT r.task_id, r.node_id, r.document, v.book, v.book_epoch, v.payee, v.order_index, o.params,
    v.cumulative, v.total, v.receipt_hash, v.signature
  FROM (SELECT task_id, node_id, document FROM receipt
    UNION ALL SELECT id, node_id, document FROM audit_receipt WHERE paid_by IS NOT NULL) r
  LEFT JOIN voucher v ON v.task_id = r.task_id
  LEFT JOIN chain_order o ON o.book = v.book AND o.order_index = v.order_index`;

export interface SignedVoucher {
  readonly task: string;
  readonly receipt: string;
  readonly signature: string;
}

interface SignatureRow {
  readonly task_id: string;
  readonly receipt_hash: Buffer;
  readonly signature: Buffer;
}

export interface KeptVoucher {
  readonly nodeId: string;
  readonly task: string;
}

/** In the order asked; null where nothing is accepted. */
export async function acceptances(
  database: Database,
  tasks: readonly string[],
): Promise<readonly (AcceptanceForNode | null)[]> {
  const rows = await database.query<AcceptanceRow>(`${ACCEPTANCE} WHERE r.task_id = ANY($1::uuid[])`, [tasks]);
  const found = new Map(rows.map((row) => [row.task_id, acceptanceOf(row)]));
  return tasks.map((task) => found.get(task) ?? null);
}

/** The first signature of each voucher stays. One wait for the disk for all of them: what was sent must be there again after a crash. */
export async function saveSignatures(
  database: Database,
  vouchers: readonly SignedVoucher[],
): Promise<readonly Omit<SignedVoucher, 'task'>[]> {
  const tasks = vouchers.map(({ task }) => task);
  const signed = await database.query<SignatureRow>(
    `WITH held AS MATERIALIZED (
       SELECT task_id FROM voucher WHERE task_id = ANY($1::uuid[]) AND signature IS NULL ORDER BY task_id FOR NO KEY UPDATE
     )
     UPDATE voucher v SET receipt_hash = made.receipt, signature = made.signature
     FROM held JOIN unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS made (task_id, receipt, signature) USING (task_id)
     WHERE v.task_id = held.task_id AND v.signature IS NULL
     RETURNING v.task_id, v.receipt_hash, v.signature, set_config('synchronous_commit', 'on', true)`,
    [tasks, vouchers.map(({ receipt }) => bytesOfHex(receipt)), vouchers.map((v) => bytesOfHex(v.signature))],
  );
  const isNew = new Set(signed.map(({ task_id }) => task_id));
  const saved = [
    ...signed,
    ...(await signaturesOf(
      database,
      tasks.filter((task) => !isNew.has(task)),
    )),
  ];
  const byTask = new Map(saved.map((row) => [row.task_id, row]));
  return tasks.map((task) => {
    const row = byTask.get(task);
    if (row === undefined)
      throw new Error(`Task ${task} has no voucher to sign. It was accepted without an order on chain.`);
    return { receipt: hexOf(row.receipt_hash), signature: hexOf(row.signature) };
  });
}

/** Of those that were signed before, also by who signed a moment ago while we waited. */
async function signaturesOf(database: Database, tasks: readonly string[]): Promise<readonly SignatureRow[]> {
  if (tasks.length === 0) return [];
  return database.query(
    'SELECT task_id, receipt_hash, signature FROM voucher WHERE task_id = ANY($1::uuid[]) AND signature IS NOT NULL',
    [tasks],
  );
}

/** Nodes say that they have stored vouchers of theirs. Nobody waits for the disk: one that a crash forgot is sent and stored again. */
export async function markKept(database: Database, vouchers: readonly KeptVoucher[]): Promise<readonly undefined[]> {
  await database.query(
    `WITH held AS MATERIALIZED (
       SELECT v.task_id FROM voucher v JOIN unnest($1::uuid[], $2::text[]) AS said (task_id, node_id) USING (task_id, node_id)
       WHERE v.signature IS NOT NULL AND v.delivered_at IS NULL ORDER BY v.task_id FOR NO KEY UPDATE OF v
     )
     UPDATE voucher v SET delivered_at = clock_timestamp() FROM held
     WHERE v.task_id = held.task_id AND v.delivered_at IS NULL RETURNING set_config('synchronous_commit', 'off', true)`,
    [vouchers.map(({ task }) => task), vouchers.map(({ nodeId }) => nodeId)],
  );
  return vouchers.map(() => undefined);
}

/**
 * A node says what it has, per epoch and not per book: of books of one coordinator that are in the same epoch the higher total counts
 * for both. What it says nothing of it has nothing of, unless it had no room to say it. An epoch is any number
 * that a node sends, and none of ours where it fits no bigint.
 */
export async function unkeep(
  database: Database,
  { nodeId, delegate }: VouchersOf,
  totals: readonly KeptTotal[],
  limit: number,
  after?: UnkeptAfter,
): Promise<UnkeptAfter | null> {
  // Epoch by epoch in the order of the totals' index: however many there are, no more are looked at than are taken.
  const [row] = await database.query<{ taken: number; epoch: string; total: string; task: string }>(
    `WITH said AS (
       SELECT epoch, max(total) AS total FROM unnest($2::numeric[], $3::numeric[]) AS said (epoch, total) GROUP BY epoch
     ), lost AS MATERIALIZED (
       SELECT of_epoch.* FROM node n CROSS JOIN chain_epoch e JOIN chain_book b ON b.book = e.book AND b.delegate = $6
         LEFT JOIN said ON said.epoch = e.epoch
         CROSS JOIN LATERAL (
           SELECT v.book_epoch, v.total, v.task_id FROM voucher v
           WHERE v.book = e.book AND v.book_epoch = e.epoch AND v.payee = n.payout AND v.net > 0
             AND v.total > coalesce(said.total, 0) AND v.total >= CASE WHEN e.epoch = $7::bigint THEN $8::numeric ELSE 0 END
             AND ($7::bigint IS NULL OR (v.book_epoch, v.total, v.task_id) > ($7::bigint, $8::numeric, $9::uuid))
             AND v.node_id = n.id AND v.delivered_at IS NOT NULL
           ORDER BY v.total LIMIT $5
         ) of_epoch
       WHERE n.id = $1 AND e.state <> 'final' AND ($7::bigint IS NULL OR e.epoch >= $7::bigint)
         AND (cardinality($2::numeric[]) < $4 OR e.epoch >= (SELECT min(epoch) FROM said))
       ORDER BY of_epoch.book_epoch, of_epoch.total, of_epoch.task_id LIMIT $5
     ), held AS MATERIALIZED (
       SELECT v.task_id FROM voucher v JOIN lost USING (task_id)
       WHERE v.delivered_at IS NOT NULL ORDER BY v.task_id FOR NO KEY UPDATE OF v
     ), unkept AS (
       UPDATE voucher v SET delivered_at = NULL FROM held WHERE v.task_id = held.task_id
     )
     SELECT (count(*) OVER ())::int AS taken, book_epoch AS epoch, total, task_id AS task
     FROM lost ORDER BY book_epoch DESC, total DESC, task_id DESC LIMIT 1`,
    [
      nodeId,
      totals.map(({ bookEpoch }) => bookEpoch),
      totals.map(({ total }) => total),
      HELLO_TOTALS_MAX,
      limit,
      delegate,
      after === undefined ? null : String(after.epoch),
      String(after?.total ?? 0n),
      after?.task ?? null,
    ],
  );
  if (row === undefined || row.taken < limit) return null;
  return { epoch: BigInt(row.epoch), total: BigInt(row.total), task: row.task };
}

export function acceptanceOf(row: AcceptanceRow): AcceptanceForNode {
  return {
    task: row.task_id,
    nodeId: row.node_id,
    document: row.document,
    claim:
      row.book === null
        ? null
        : {
            book: row.book,
            epoch: BigInt(row.book_epoch),
            payee: row.payee,
            order: row.order_index,
            orderParams: hexOf(row.params),
            cumulative: BigInt(row.cumulative),
            total: BigInt(row.total),
            receipt: row.receipt_hash === null ? null : hexOf(row.receipt_hash),
            signature: row.signature === null ? null : hexOf(row.signature),
          },
  };
}
