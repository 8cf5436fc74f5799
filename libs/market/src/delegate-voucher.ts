/** What a delegate signs of a voucher, as the ledger has it or as a file keeps it. */
export interface SignedVoucherFields {
  readonly book: string;
  readonly epoch: bigint | string;
  readonly payee: string;
  readonly order: number | string;
  readonly orderParams: string;
  readonly cumulative: bigint | string;
  readonly total: bigint | string;
  /** The hash of the digests of the receipt's fields and of the claim. */
  readonly receipt: string;
}

/** The EIP-712 message of a voucher: whoever signs and whoever checks must mean the same. */
export function delegateVoucherMessage(voucher: SignedVoucherFields): Readonly<Record<string, unknown>> {
  const { book, epoch, payee, order, orderParams, cumulative, total, receipt } = voucher;
  return {
    book,
    epoch: BigInt(epoch),
    payee,
    order: BigInt(order),
    orderParams,
    cumulative: BigInt(cumulative),
    total: BigInt(total),
    receipt,
  };
}
