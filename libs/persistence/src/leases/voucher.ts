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
  /** What auditors are paid out of its fee. */
  readonly dues: readonly PayableDue[];
}

/** Newcomers beyond this wait for another book; the rest of the escrow's limit is for those that race each other here. */
const PAYEES_PAID_MAX = PAYEES_MAX - 48;

interface OpenEpoch {
  readonly book: string;
  readonly epoch: string;
}

interface ChargedOrder extends OpenEpoch {
  readonly order_index: number;
}

/** One line of a voucher: who may claim how much because of this acceptance. */
interface Claim {
  readonly order: ChargedOrder;
  readonly kind: 'work' | 'audit';
  /** The accepted task, or the audit receipt. */
  readonly task: string;
  readonly node_id: string;
  readonly payout: string;
  readonly gross: Amount;
  readonly net: Amount;
}

/**
 * Acceptances as claims on orders: cumulative over (order, payee, epoch) and total over (payee, epoch), net of fee; the
 * work's, and those of the auditors that its fee pays, which take nothing more from the order. Signed later, after they are
 * saved here. Nothing is issued while no order covers the charge (no chain).
 *
 * Locks, always in this order: the epoch for share (closing it waits for us), the orders, the payees by address: totals rise
 * one by one.
 */
export async function issueVouchers(tx: Sql, earned: readonly Earned[]): Promise<void> {
  if (earned.length === 0) return;
  const epochs = await lockEpochs(tx);
  if (epochs.length === 0) return;
  await lockOrders(tx, epochs, earned);
  const claims: Claim[] = [];
  for (const alike of groups(earned, ({ org_id, trust, payout }) => `${org_id} ${trust} ${payout}`)) {
    const orders = await chargeOrders(tx, epochs, alike);
    for (const [i, one] of alike.entries()) {
      const order = orders[i];
      if (order === undefined) continue;
      claims.push({ ...one, order, kind: 'work' });
      for (const due of one.dues)
        claims.push({ ...due, order, kind: 'audit', task: due.id, gross: 0n, net: due.amount });
    }
  }
  for (const alike of groups(claims, ({ order, payout }) => `${payout} ${order.book}`)) await issueAll(tx, alike);
}

const OPEN_EPOCHS = `chain_epoch e JOIN chain_book b ON b.book = e.book AND b.state = 'alive' WHERE e.state = 'open'`;

/**
 * Who waited while an epoch was closed finds it closed, and does not see the one that was opened with it: that statement began before.
 * Another look tells, and then there is nothing to wait for.
 */
async function lockEpochs(tx: Sql): Promise<readonly OpenEpoch[]> {
  for (;;) {
    const locked = await tx.query<OpenEpoch>(
      `SELECT e.book, e.epoch FROM ${OPEN_EPOCHS} ORDER BY b.opened_block DESC, e.book FOR SHARE OF e`,
    );
    const [open] = await tx.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${OPEN_EPOCHS}`);
    if (locked.length >= (open?.n ?? 0)) return locked;
  }
}

/**
 * Every order that may be charged, in the order of the key, for one as for a group: whoever finds his own order spent when he has
 * waited for it would else hold it, and wait for the operator's, which a group holds that waits for his.
 */
async function lockOrders(tx: Sql, epochs: readonly OpenEpoch[], earned: readonly Earned[]): Promise<void> {
  await tx.query(
    `SELECT 1 FROM chain_order WHERE book = ANY($1::text[]) AND state IN ('open', 'closing') AND (is_operator OR org_id = ANY($2::text[]))
     ORDER BY book, order_index FOR NO KEY UPDATE`,
    [epochs.map(({ book }) => book), [...new Set(earned.map(({ org_id }) => org_id))]],
  );
}

/** By their keys, in the order of the keys. */
function groups<T>(items: readonly T[], keyOf: (item: T) => string): (readonly T[])[] {
  const byKey = new Map<string, T[]>();
  for (const item of items) byKey.set(keyOf(item), [...(byKey.get(keyOf(item)) ?? []), item]);
  return [...byKey].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
}

/** The claims of one payee in one book: each rises over the one before it. */
async function issueAll(tx: Sql, claims: readonly Claim[]): Promise<void> {
  const [first] = claims;
  if (first === undefined) return;
  const net = claims.reduce((sum, claim) => sum + claim.net, 0n);
  let total = (await raiseTotal(tx, first.order, first.payout, net)) - net;
  const totals = claims.map((claim) => (total += claim.net));
  await tx.query(
    `INSERT INTO voucher (task_id, node_id, book, book_epoch, payee, order_index, cumulative, total, gross, net, kind)
     SELECT claim.task_id, claim.node_id, $1, $2, $3, claim.order_index,
       coalesce(before.cumulative, 0) + sum(claim.net) OVER (PARTITION BY claim.order_index ORDER BY claim.total, claim.place),
       claim.total, claim.gross, claim.net, claim.kind
     FROM unnest($4::uuid[], $5::text[], $6::int[], $7::numeric[], $8::numeric[], $9::numeric[], $10::text[])
       WITH ORDINALITY AS claim (task_id, node_id, order_index, total, gross, net, kind, place)
     LEFT JOIN LATERAL (SELECT max(cumulative) AS cumulative FROM voucher
       WHERE book = $1 AND book_epoch = $2 AND order_index = claim.order_index AND payee = $3) AS before ON true`,
    [
      first.order.book,
      first.order.epoch,
      first.payout,
      claims.map(({ task }) => task),
      claims.map(({ node_id }) => node_id),
      claims.map(({ order }) => order.order_index),
      totals.map(String),
      claims.map((claim) => String(claim.gross)),
      claims.map((claim) => String(claim.net)),
      claims.map(({ kind }) => kind),
    ],
  );
}

/** The orders that stand behind work of one organisation for one payee: one for all of it, or each its own where none covers all. */
async function chargeOrders(
  tx: Sql,
  epochs: readonly OpenEpoch[],
  alike: readonly Earned[],
): Promise<readonly (ChargedOrder | undefined)[]> {
  const [first] = alike;
  if (first === undefined) return [];
  const gross = alike.reduce((sum, one) => sum + one.gross, 0n);
  if (alike.length === 1) return [await chargeOrder(tx, epochs, first, true)];
  // The operator's order is for what an own one does not cover by itself: together they may be more than that.
  const forAll = await chargeOrder(tx, epochs, { ...first, gross }, first.trust === 'operator-credits');
  if (forAll !== undefined) return alike.map(() => forAll);
  const orders: (ChargedOrder | undefined)[] = [];
  for (const one of alike) orders.push(await chargeOrder(tx, epochs, one, true));
  return orders;
}

/**
 * Promises the charge on an order whose reserved lane still covers it: the org's own, else the operator's, who is the payer
 * for credits and stands in where an org's order was closed under running work. A voucher that could never be posted would hold up
 * everybody's: the escrow knows no payee zero, and so many in a book.
 */
async function chargeOrder(
  tx: Sql,
  epochs: readonly OpenEpoch[],
  earned: Pick<Earned, 'org_id' | 'trust' | 'payout' | 'gross'>,
  isOperatorAsked: boolean,
): Promise<ChargedOrder | undefined> {
  if (BigInt(earned.payout) === 0n) return undefined;
  for (const { book, epoch } of epochs) {
    const [charged] = await tx.query<{ order_index: number }>(
      `UPDATE chain_order SET spent = spent + $4::numeric
       WHERE (book, order_index) = (
         SELECT book, order_index FROM chain_order
         WHERE book = $1 AND (state = 'open' OR (state = 'closing' AND close_epoch >= $2::bigint))
           AND ((is_operator AND $6) OR (org_id = $3 AND $5 = 'self-custody')) AND spent + $4::numeric <= reserved
           AND (EXISTS (SELECT 1 FROM chain_payee WHERE book = $1 AND payee = $7)
             OR (SELECT count(*) FROM chain_payee WHERE book = $1) < $8)
         ORDER BY is_operator, order_index LIMIT 1 FOR NO KEY UPDATE)
       RETURNING order_index`,
      [
        ...[book, epoch, earned.org_id, String(earned.gross), earned.trust, isOperatorAsked],
        ...[earned.payout, PAYEES_PAID_MAX],
      ],
    );
    if (charged !== undefined) return { book, order_index: charged.order_index, epoch };
  }
  return undefined;
}

/** The payee's total in the epoch after these acceptances; its row stays locked until we commit. */
async function raiseTotal(tx: Sql, order: ChargedOrder, payout: string, net: Amount): Promise<Amount> {
  const [payee] = await tx.query<{ total: string }>(
    `INSERT INTO chain_payee AS p (book, payee, book_epoch, total) VALUES ($1, $2, $3, $4)
     ON CONFLICT (book, payee) DO UPDATE SET book_epoch = excluded.book_epoch,
       total = excluded.total + CASE WHEN p.book_epoch = excluded.book_epoch THEN p.total ELSE 0 END
     RETURNING total`,
    [order.book, payout, order.epoch, String(net)],
  );
  if (payee === undefined)
    throw new Error(`No total for payee ${payout} in book ${order.book}: the insert returned nothing`);
  return BigInt(payee.total);
}
