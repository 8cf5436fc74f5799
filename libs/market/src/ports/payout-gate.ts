import type { ChainBlock } from './chain-store.ts';

/** Whether money may leave through us. Kept with the ledger: every process, the doctor and the operator see the same. */
export interface PayoutState {
  /** Null: payouts run. */
  readonly halted: {
    /** A reconciler's halt ends with the mismatch; an operator's with the operator's word. */
    readonly by: 'reconciler' | 'operator';
    readonly why: string;
    /** When it began, by the database's clock. */
    readonly since: string;
  } | null;
  /** A difference (escrow − ledger) that the operator has looked into and taken on: payouts run while it is exactly this. */
  readonly accepted: bigint;
}

export abstract class PayoutGate {
  abstract state(): Promise<PayoutState>;
  /** Compare-and-set: false when the state was moved by another meanwhile. */
  abstract move(
    from: PayoutState,
    to: {
      readonly halted: { readonly by: 'reconciler' | 'operator'; readonly why: string } | null;
      readonly accepted: bigint;
    },
  ): Promise<boolean>;
  /** What the ledger says that the escrow holds, and the block it says so of: read in one statement. Null before the first block. */
  abstract booked(): Promise<{ readonly block: ChainBlock; readonly escrow: bigint } | null>;
}
