/** One accepted lease with its claim: what is signed, told to the node, and kept by it. */
export interface AcceptanceForNode {
  readonly task: string;
  readonly nodeId: string;
  /** The receipt's whole document. */
  readonly document: Readonly<Record<string, unknown>>;
  /** Null when nothing is owed, or no order on chain stands behind the job. */
  readonly claim: VoucherClaim | null;
}

export interface VoucherClaim {
  readonly book: string;
  readonly epoch: bigint;
  readonly payee: string;
  readonly order: number;
  readonly orderParams: string;
  /** Net of fee, over this order in this epoch. */
  readonly cumulative: bigint;
  /** Net of fee, over all orders in this epoch. */
  readonly total: bigint;
  /** The hash of the digests of the receipt's fields and of this claim, once signed. */
  readonly receipt: string | null;
  readonly signature: string | null;
}

/** The highest total that a node has a voucher over in one epoch. */
export interface KeptTotal {
  readonly bookEpoch: string;
  readonly total: string;
}

/** Whose vouchers. */
export interface VouchersOf {
  readonly nodeId: string;
  /** Who signs for the books that they are of; those of other books are no business of ours. */
  readonly delegate: string;
}

/** Where a page of vouchers ended. */
export interface UnkeptAfter {
  readonly epoch: bigint;
  readonly total: bigint;
  readonly task: string;
}

export interface EpochAmounts {
  readonly epoch: bigint;
  readonly state: 'open' | 'closed' | 'posted' | 'final';
  /** Gross by order index. Empty while open. */
  readonly debits: ReadonlyMap<number, bigint>;
  /** Net by payee address. Empty while open. */
  readonly credits: ReadonlyMap<string, bigint>;
}

/** What the receipt of an accepted lease commits to. */
export interface Commit {
  readonly task: string;
  readonly leaseEpoch: number;
  readonly root: string;
}

/** Vouchers and epochs of a book. Every move is a compare-and-set. */
export abstract class SettlementStore {
  abstract acceptance(task: string): Promise<AcceptanceForNode | null>;
  /** Saves the first signature of a voucher; whoever comes later gets that one. */
  abstract saveSignature(
    task: string,
    receipt: string,
    signature: string,
  ): Promise<{ readonly receipt: string; readonly signature: string }>;
  /** Signed vouchers that the node has not confirmed, oldest first: by epoch, total and task, in this order. */
  abstract unkept(of: VouchersOf, limit: number, after?: UnkeptAfter): Promise<readonly AcceptanceForNode[]>;
  abstract markKept(nodeId: string, task: string): Promise<void>;
  /**
   * What a node has by its own word, of the newest epochs that it knows. Whatever it confirmed beyond that it has lost, and counts as
   * not confirmed, as long as its epoch is not final: then the chain has it. Only vouchers to the address that the node is paid at.
   *
   * Of the oldest ones no more than the limit, beginning after the last one of an earlier call.
   *
   * @returns the last one, where there may be more.
   */
  abstract unkeep(
    of: VouchersOf,
    totals: readonly KeptTotal[],
    limit: number,
    after?: UnkeptAfter,
  ): Promise<UnkeptAfter | null>;

  /** The epoch that work is accepted into; null before the book is known. */
  abstract openEpoch(book: string): Promise<bigint | null>;
  /** Fixes the epoch's debits and credits (sums of its vouchers) and opens the next one. False when it was not open. */
  abstract closeEpoch(book: string, epoch: bigint): Promise<boolean>;
  abstract epoch(book: string, epoch: bigint): Promise<EpochAmounts | null>;
  /** The oldest epoch that is over, has commits, and whose anchor no transaction of ours carries; null when there is none. */
  abstract unanchored(book: string): Promise<bigint | null>;
  /** The commits of an epoch that is over, in the order of their tasks: one for each lease that a voucher of it pays. */
  abstract commits(book: string, epoch: bigint): Promise<readonly Commit[]>;
  /** Indices on chain, of those payees that have one. */
  abstract payeeIndices(book: string, payees: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Payees whose credit on chain, as far as we have read it, is at least so much. */
  abstract payable(
    book: string,
    atLeast: bigint,
    limit: number,
  ): Promise<readonly { readonly index: number; readonly amount: bigint }[]>;
  /** Closing orders whose last epoch is final when the book stands at `next`. */
  abstract refundable(book: string, next: bigint, limit: number): Promise<readonly number[]>;
}
