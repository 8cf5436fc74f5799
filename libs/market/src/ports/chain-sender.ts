import type { EscrowCall } from './escrow.ts';

export type SendState =
  /** Signed, saved and on its way: not confirmed yet. */
  | { readonly state: 'pending'; readonly hash: string }
  | { readonly state: 'confirmed'; readonly hash: string; readonly gasUsed: bigint }
  /** Would revert as the chain is now; nothing was signed. */
  | { readonly state: 'refused'; readonly why: string };

export interface SendWish {
  /** What for, and about what: at most one transaction lives for each pair. */
  readonly purpose: string;
  readonly ref: string;
  readonly call: EscrowCall;
}

/** Sends transactions of one key so that none is ever sent twice: sign → save → send. */
export abstract class ChainSender {
  abstract readonly address: string;
  /** The same wish again answers how the first one fares. One that was mined and reverted is tried anew. */
  abstract submit(wish: SendWish): Promise<SendState>;
  /** Confirms, sends again what the chain or the pool has lost, raises the fee of what waits too long. */
  abstract tick(): Promise<{
    readonly confirmed: number;
    readonly failed: number;
    readonly resent: number;
    readonly replaced: number;
    /** Why a saved transaction, and all behind it, are not sent now; null when everything that was saved is on its way. */
    readonly waits: string | null;
  }>;
}

/** One process at a time, however many run. */
export abstract class Leadership {
  /** Runs the work if nobody else holds this office, else null at once. */
  abstract attempt<T>(office: string, work: () => Promise<T>): Promise<T | null>;
}
