import type { Amount } from '@freehold/domain';
import type { GoodReceipt, ReceiptFault } from './check-receipts.ts';

/** What receipts of one payee in one epoch of a book add up to. */
export interface EpochSum {
  readonly book: string;
  readonly epoch: string;
  readonly payee: string;
  readonly receipts: number;
  /** Σ of charge less fee over the receipts at hand. */
  readonly net: Amount;
  /** The highest total that the delegate signed: what can be cashed. */
  readonly total: Amount;
  /** Total less net: earned under receipts that are not among these (another file, or another node of the same payout). */
  readonly elsewhere: Amount;
}

/**
 * Lays good receipts side by side: every voucher's total must have room for all the receipts up to it, in the order and in
 * all, and no task may be there twice. A total above the sum is no fault: it says that a receipt is elsewhere.
 */
export function addUpReceipts(receipts: readonly GoodReceipt[]): {
  readonly sums: readonly EpochSum[];
  readonly faults: readonly ReceiptFault[];
} {
  const faults: ReceiptFault[] = [];
  const seen = new Set<string>();
  const byEpoch = new Map<string, GoodReceipt[]>();
  for (const receipt of receipts) {
    if (seen.has(receipt.task)) {
      faults.push({
        good: false,
        task: receipt.task,
        field: 'task',
        why: 'this task has a receipt already: paid once',
      });
      continue;
    }
    seen.add(receipt.task);
    const { book, epoch, payee } = receipt.voucher;
    const key = `${receipt.chainId}/${receipt.escrow}/${book}/${epoch}/${payee}`;
    byEpoch.set(key, [...(byEpoch.get(key) ?? []), receipt]);
  }
  const sums = [...byEpoch.values()].map((group) => sumOf(group, faults));
  return { sums, faults };
}

function sumOf(group: GoodReceipt[], faults: ReceiptFault[]): EpochSum {
  group.sort((a, b) => (BigInt(a.voucher.total) < BigInt(b.voucher.total) ? -1 : 1));
  let net = 0n;
  let total = 0n;
  const orders = new Map<string, Amount>();
  for (const receipt of group) {
    const { voucher } = receipt;
    net += receipt.net;
    total += receipt.net;
    const ofOrder = (orders.get(voucher.order) ?? 0n) + receipt.net;
    const short = BigInt(voucher.total) < total ? 'total' : BigInt(voucher.cumulative) < ofOrder ? 'cumulative' : null;
    if (short !== null)
      faults.push({
        good: false,
        task: receipt.task,
        field: `voucher.${short}`,
        why: `it is ${voucher[short]}; the receipts up to it earned ${short === 'total' ? total : ofOrder}`,
      });
    total = max(total, BigInt(voucher.total));
    orders.set(voucher.order, max(ofOrder, BigInt(voucher.cumulative)));
  }
  // Sorted: the last one's total is the highest that was signed. `total` is above it where receipts were promised too little.
  const { book, epoch, payee, total: highest } = (group.at(-1) as GoodReceipt).voucher;
  const signed = BigInt(highest);
  return { book, epoch, payee, receipts: group.length, net, total: signed, elsewhere: max(signed - net, 0n) };
}

const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
