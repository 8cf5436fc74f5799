import { AmountText, HELLO_TOTALS_MAX } from '@freehold/protocol';
import { z } from 'zod';

export const Amount = z.union([AmountText, z.int().min(0).transform(String)]);
/** DelegateVoucher as it comes: amounts as decimal strings, and the delegate's signature over it. */
export const VoucherView = z.looseObject({
  book: z.string(),
  epoch: Amount,
  payee: z.string(),
  order: z.union([z.int(), z.string()]).transform(String),
  cumulative: Amount,
  total: Amount,
  signature: z.string(),
});
export type Voucher = z.infer<typeof VoucherView>;

const Sums = z.object({ total: AmountText, orders: z.record(z.string(), AmountText) });

/** What the vouchers of one epoch of a book come to: the highest total, and by order the highest cumulative amount. */
const Head = Sums.extend({
  coordinator: z.string(),
  bookEpoch: AmountText,
  /** What the receipts come to that this node keeps of it. Absent: an older node kept them, and did not add them up. */
  earned: Sums.optional(),
});
export type Head = z.infer<typeof Head>;
/** By book and epoch. */
export const Heads = z.record(z.string(), Head);
export type Heads = z.infer<typeof Heads>;

export const headKey = (voucher: { readonly book: string; readonly epoch: string }): string =>
  `${voucher.book}/${voucher.epoch}`;

/**
 * Why a voucher over so much is no good after the others of its epoch; null when it is good.
 *
 * It has to raise the total, and that of its order, by what was earned: exactly, or where other nodes are paid at the same address
 * at least, because their work raises them too. A voucher that is older than others that are here raises nothing. It is good as
 * long as the totals cover it beside everything else that this node has a receipt for: two leases that are promised one amount
 * have no room beside each other, whatever the order in which they come.
 */
export function riseFault(
  heads: Heads,
  voucher: Voucher,
  net: bigint,
  { ownPayout, mayBeOld }: { readonly ownPayout: boolean; readonly mayBeOld: boolean },
): { readonly code: 'VOUCHER_AHEAD' | 'VOUCHER_RISE'; readonly message: string } | null {
  const head = heads[headKey(voucher)];
  const [total, cumulative] = [BigInt(head?.total ?? '0'), BigInt(head?.orders[voucher.order] ?? '0')];
  const [newTotal, newCumulative] = [BigInt(voucher.total), BigInt(voucher.cumulative)];
  const isRise = ownPayout
    ? newTotal === total + net && newCumulative === cumulative + net
    : newTotal >= total + net && newCumulative >= cumulative + net;
  if (isRise) return null;
  const earned = earnedOf(head);
  const isCoveredInOrder =
    newCumulative <= cumulative && BigInt(earned.orders[voucher.order] ?? '0') + net <= cumulative;
  const isCovered = mayBeOld && newTotal <= total && BigInt(earned.total) + net <= total;
  if (isCovered && (isCoveredInOrder || newCumulative >= cumulative + net)) return null;
  return {
    code: newTotal > total + net ? 'VOUCHER_AHEAD' : 'VOUCHER_RISE',
    message: `${net} was earned: expected total ${total + net} and ${cumulative + net} of order ${voucher.order}; the voucher says ${newTotal} and ${newCumulative}, and the receipts here come to ${earned.total}.`,
  };
}

/** The highest totals of a coordinator's last epochs. */
export function totalsNow(heads: Heads, coordinator: string): Record<string, string> {
  const own = Object.entries(heads).filter(([, head]) => head.coordinator === coordinator);
  own.sort(([, a], [, b]) => (BigInt(a.bookEpoch) < BigInt(b.bookEpoch) ? 1 : -1));
  return Object.fromEntries(own.slice(0, HELLO_TOTALS_MAX).map(([key, { total }]) => [key, total]));
}

/**
 * Why a voucher is no good for work that was signed when so much was promised; null when it may be. What is promised rises in the
 * order in which work comes, so only work that nothing is known of can be older than what is here: its note went with the disk.
 */
export function lateFault(
  then: Readonly<Record<string, string>> | null,
  voucher: Voucher,
  net: bigint,
): { readonly code: 'VOUCHER_RISE'; readonly message: string } | null {
  if (then === null) return null;
  const epochs = Object.keys(then).map((key) => BigInt(key.slice(key.lastIndexOf('/') + 1)));
  // Of so many epochs that not all of them were noted.
  const isOver = epochs.length >= HELLO_TOTALS_MAX && epochs.every((epoch) => BigInt(voucher.epoch) < epoch);
  const least = BigInt(then[headKey(voucher)] ?? '0') + net;
  if (!isOver && BigInt(voucher.total) >= least) return null;
  return {
    code: 'VOUCHER_RISE',
    message: isOver
      ? `The work was signed ${HELLO_TOTALS_MAX} epochs and more after epoch ${voucher.epoch}: expected a voucher of one of them, or of a later one.`
      : `${net} was earned after the total was ${least - net}: expected a total of ${least} or more; the voucher says ${voucher.total}.`,
  };
}

/** Whether the totals do not have all that this voucher says. */
export function isBehind(heads: Heads, voucher: Voucher): boolean {
  const head = heads[headKey(voucher)];
  return (
    BigInt(voucher.total) > BigInt(head?.total ?? '0') ||
    BigInt(voucher.cumulative) > BigInt(head?.orders[voucher.order] ?? '0')
  );
}

/** The totals with those of this voucher over so much, where they are higher: receipts are not read in the order in which they came. */
export function advanced(heads: Heads, voucher: Voucher, net: bigint, coordinator: string): Heads {
  const { epoch, order } = voucher;
  const key = headKey(voucher);
  const head = heads[key];
  const total = higher(voucher.total, head?.total);
  const cumulative = higher(voucher.cumulative, head?.orders[order]);
  const earned = earnedOf(head);
  return {
    ...heads,
    [key]: {
      ...{ coordinator, bookEpoch: epoch, total },
      orders: { ...head?.orders, [order]: cumulative },
      earned: {
        total: String(BigInt(earned.total) + net),
        orders: { ...earned.orders, [order]: String(BigInt(earned.orders[order] ?? '0') + net) },
      },
    },
  };
}

/** Where nobody added up, nothing that is promised is taken for free. */
function earnedOf(head: Head | undefined): Pick<Head, 'total' | 'orders'> {
  return head === undefined ? { total: '0', orders: {} } : (head.earned ?? head);
}

function higher(amount: string, other = '0'): string {
  return BigInt(amount) > BigInt(other) ? amount : other;
}
