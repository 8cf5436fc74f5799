import type { Amount } from '@freehold/domain';
import { PAYEES_MAX } from '@freehold/protocol';
import type { Sql } from '../database.ts';
import type { PayableDue } from './audit-pay.ts';

export interface Earned {
  readonly task: string;
  readonly org_id: string;
  readonly node_id: string;
  readonly payout: string;
  readonly trust: 'self-custody' | 'operator-credits';
  readonly gross: Amount;
  readonly net: Amount;
}

/** Newcomers beyond this wait for another book; the rest of the escrow's limit is for those that race each other here. */
const PAYEES_PAID_MAX = PAYEES_MAX - 48;

interface ChargedOrder {
  readonly book: string;
  readonly order_index: number;
  readonly epoch: string;
}

/** One line of a voucher: who may claim how much because of this acceptance. */
interface Claim {
  readonly kind: 'work' | 'audit';
  /** The accepted task, or the audit receipt. */
  readonly task: string;
  readonly node_id: string;
  readonly payout: string;
  readonly gross: Amount;
  readonly net: Amount;
}

/**
 * The acceptance as claims on an order: cumulative over (order, payee, epoch) and total over (payee, epoch), net of fee; the
 * work's, and those of the auditors that its fee pays, which take nothing more from the order. Signed later, after they are
 * saved here. Nothing is issued while no order covers the charge (no chain).
 *
 * Locks, always in this order: the epoch for share (closing it waits for us), the order, the payees by address: totals rise
 * one by one.
 */
export async function issueVouchers(tx: Sql, earned: Earned, dues: readonly PayableDue[]): Promise<void> {
  const order = await chargeOrder(tx, earned);
  if (order === undefined) return;
  const claims: Claim[] = [
    { ...earned, kind: 'work' },
    ...dues.map((due): Claim => ({ ...due, kind: 'audit', task: due.id, gross: 0n, net: due.amount })),
  ];
  for (const claim of claims.sort((a, b) => (a.payout < b.payout ? -1 : 1))) await issueVoucher(tx, order, claim);
}

async function issueVoucher(tx: Sql, order: ChargedOrder, claim: Claim): Promise<void> {
  const total = await raiseTotal(tx, order, claim);
  await tx.query(
    `INSERT INTO voucher (task_id, node_id, book, book_epoch, payee, order_index, cumulative, total, gross, net, kind)
     SELECT $1, $2, $3, $4, $5, $6,
       $9::numeric + coalesce((SELECT max(cumulative) FROM voucher
         WHERE book = $3 AND book_epoch = $4 AND order_index = $6 AND payee = $5), 0),
       $7, $8, $9::numeric, $10`,
    [
      claim.task,
      claim.node_id,
      order.book,
      order.epoch,
      claim.payout,
      order.order_index,
      total,
      String(claim.gross),
      String(claim.net),
      claim.kind,
    ],
  );
}

/**
 * Promises the charge on an order whose reserved lane still covers it: the org's own, else the operator's, who is the payer
 * for credits and stands in where an org's order was closed under running work.
 */
async function chargeOrder(tx: Sql, earned: Earned): Promise<ChargedOrder | undefined> {
  const epochs = await tx.query<{ book: string; epoch: string }>(
    `SELECT e.book, e.epoch FROM chain_epoch e JOIN chain_book b ON b.book = e.book AND b.state = 'alive'
     WHERE e.state = 'open' ORDER BY b.opened_block DESC, e.book FOR SHARE OF e`,
  );
  for (const { book, epoch } of epochs) {
    if (!(await isPayable(tx, book, earned.payout))) continue;
    const [charged] = await tx.query<{ order_index: number }>(
      `UPDATE chain_order SET spent = spent + $4::numeric
       WHERE (book, order_index) = (
         SELECT book, order_index FROM chain_order
         WHERE book = $1 AND (state = 'open' OR (state = 'closing' AND close_epoch >= $2::bigint))
           AND (is_operator OR (org_id = $3 AND $5 = 'self-custody')) AND spent + $4::numeric <= reserved
         ORDER BY is_operator, order_index LIMIT 1 FOR NO KEY UPDATE)
       RETURNING order_index`,
      [book, epoch, earned.org_id, String(earned.gross), earned.trust],
    );
    if (charged !== undefined) return { book, order_index: charged.order_index, epoch };
  }
  return undefined;
}

/** A voucher that could never be posted would hold up everybody's: the escrow knows no payee zero, and so many in a book. */
async function isPayable(tx: Sql, book: string, payout: string): Promise<boolean> {
  if (BigInt(payout) === 0n) return false;
  const [answer] = await tx.query<{ payable: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM chain_payee WHERE book = $1 AND payee = $2)
       OR (SELECT count(*) FROM chain_payee WHERE book = $1) < $3 AS payable`,
    [book, payout, PAYEES_PAID_MAX],
  );
  return answer?.payable === true;
}

/** The payee's total in the epoch after this acceptance; its row stays locked until we commit. */
async function raiseTotal(tx: Sql, order: ChargedOrder, claim: Claim): Promise<string> {
  const [payee] = await tx.query<{ total: string }>(
    `INSERT INTO chain_payee AS p (book, payee, book_epoch, total) VALUES ($1, $2, $3, $4)
     ON CONFLICT (book, payee) DO UPDATE SET book_epoch = excluded.book_epoch,
       total = excluded.total + CASE WHEN p.book_epoch = excluded.book_epoch THEN p.total ELSE 0 END
     RETURNING total`,
    [order.book, claim.payout, order.epoch, String(claim.net)],
  );
  if (payee === undefined)
    throw new Error(`No total for payee ${claim.payout} in book ${order.book}: the insert returned nothing`);
  return payee.total;
}
