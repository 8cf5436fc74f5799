import type { Amount } from '@freehold/domain';
import type { Sql } from '../database.ts';

export interface Earned {
  readonly task: string;
  readonly org_id: string;
  readonly node_id: string;
  readonly payout: string;
  readonly trust: 'self-custody' | 'operator-credits';
  readonly gross: Amount;
  readonly net: Amount;
}

interface OpenOrder {
  readonly book: string;
  readonly order_index: number;
  readonly epoch: string;
}

/** Advisory lock class under which a book's payee indices are handed out. */
const PAYEE_LOCK = 7_316_002;

/**
 * The acceptance as a claim on an order: cumulative over (order, payee, epoch) and total over (payee, epoch), net of fee.
 * Signed later, after it is saved here. Nothing is issued while there is no open order or no open epoch (no chain).
 *
 * The epoch's row is locked for share (closing it waits for us), the payee's for us alone: its total rises one by one.
 */
export async function issueVoucher(tx: Sql, earned: Earned): Promise<void> {
  const order = await openOrder(tx, earned);
  if (order === undefined) return;
  const payee = await payeeIndex(tx, order.book, earned.payout);
  await tx.query(
    `INSERT INTO voucher (task_id, node_id, book, book_epoch, payee, payee_index, order_index, cumulative, total, gross, net)
     SELECT $1, $2, $3, $4, $5, $6, $7,
       $9::numeric + coalesce((SELECT max(cumulative) FROM voucher
         WHERE book = $3 AND book_epoch = $4 AND order_index = $7 AND payee_index = $6), 0),
       $9::numeric + coalesce((SELECT max(total) FROM voucher WHERE book = $3 AND book_epoch = $4 AND payee_index = $6), 0),
       $8, $9::numeric`,
    [
      earned.task,
      earned.node_id,
      order.book,
      order.epoch,
      earned.payout,
      payee,
      order.order_index,
      String(earned.gross),
      String(earned.net),
    ],
  );
}

/** The org's own order; for operator credits also the operator's (the order that belongs to no org). */
async function openOrder(tx: Sql, earned: Earned): Promise<OpenOrder | undefined> {
  const [order] = await tx.query<OpenOrder>(
    `SELECT o.book, o.order_index, e.epoch FROM chain_order o JOIN chain_epoch e ON e.book = o.book AND e.state = 'open'
     WHERE o.state = 'open' AND (o.org_id = $1 OR (o.org_id IS NULL AND $2 = 'operator-credits'))
     ORDER BY o.org_id NULLS LAST, o.book DESC, o.order_index DESC LIMIT 1 FOR SHARE OF e`,
    [earned.org_id, earned.trust],
  );
  return order;
}

/** The payee's stable index in the book, its row locked. A newcomer gets the next one. */
async function payeeIndex(tx: Sql, book: string, payout: string): Promise<number> {
  const find = async (): Promise<number | undefined> => {
    const [known] = await tx.query<{ payee_index: number }>(
      'SELECT payee_index FROM chain_payee WHERE book = $1 AND payout = $2 FOR NO KEY UPDATE',
      [book, payout],
    );
    return known?.payee_index;
  };
  const known = await find();
  if (known !== undefined) return known;
  await tx.query('SELECT pg_advisory_xact_lock($1, hashtext($2))', [PAYEE_LOCK, book]);
  const meanwhile = await find();
  if (meanwhile !== undefined) return meanwhile;
  const [added] = await tx.query<{ payee_index: number }>(
    `INSERT INTO chain_payee (book, payee_index, payout)
     SELECT $1, coalesce(max(payee_index) + 1, 0), $2 FROM chain_payee WHERE book = $1 RETURNING payee_index`,
    [book, payout],
  );
  if (added === undefined) throw new Error(`No index for payee ${payout} in book ${book}: the insert returned nothing`);
  return added.payee_index;
}
