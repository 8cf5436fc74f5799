import type { KeptTotal } from '@freehold/market';

/** The money path of one coordinator, as its processes call it. Every call may run twice and goes on where the last one died. */
export interface Settlement {
  /** Signs and sends the acceptance and delegate voucher of an accepted task. */
  issueVoucher(task: string): Promise<void>;
  resendVouchers(nodeId: string, totals?: readonly KeptTotal[]): Promise<void>;
  voucherKept(nodeId: string, task: string): Promise<void>;
  /** Closes, posts and finalises epochs that are due, withdraws what nodes may have. */
  settleOnChain(): Promise<void>;
  /** Reads new blocks into the ledger. @returns in how many milliseconds the chain is worth the next look. */
  followChain(): Promise<number>;
}
