import type { ChainEvent } from './escrow.ts';

export interface ChainBlock {
  readonly number: bigint;
  readonly hash: string;
}

/** One step of reading the chain: undo what is above the fork, apply what came, remember the new end. */
export interface ChainStep {
  /** The end that the caller started from; the step is refused when it is not the end any more. */
  readonly from: ChainBlock | null;
  /** Everything we applied in blocks above this number is not on the chain any more; null when nothing was undone. */
  readonly forkedAt: bigint | null;
  readonly events: readonly ChainEvent[];
  readonly to: ChainBlock;
}

/** What we have read of the chain, and what it did to the ledger: both move in one transaction. */
export abstract class ChainHistory {
  /** Refuses another chain than the one this database was filled from. */
  abstract rememberChain(identity: {
    readonly chainId: number;
    readonly genesis: string;
    readonly escrow: string;
  }): Promise<void>;
  /** Blocks that we remember, newest first; empty before the first step. */
  abstract blocks(limit: number): Promise<readonly ChainBlock[]>;
  abstract absorb(
    step: ChainStep,
  ): Promise<{ readonly absorbed: boolean; readonly applied: number; readonly undone: number }>;
}

export interface SavedTransaction {
  readonly id: string;
  readonly nonce: number;
  readonly purpose: string;
  readonly ref: string;
  readonly raw: string;
  readonly hash: string;
  readonly state: 'saved' | 'sent' | 'confirmed' | 'failed' | 'replaced';
  readonly gasUsed: bigint | null;
  readonly blockNumber: bigint | null;
  readonly blockHash: string | null;
  /** Since it was signed, by the database's clock. */
  readonly ageMs: number;
}

export interface Mined {
  readonly succeeded: boolean;
  readonly gasUsed: bigint;
  readonly blockNumber: bigint;
  readonly blockHash: string;
}

/** Signed transactions. A nonce and a (purpose, ref) are each taken once: that is what "never twice" rests on. */
export abstract class ChainTransactions {
  /** The one that lives for this pair, else the last one that was mined and reverted. */
  abstract find(purpose: string, ref: string): Promise<SavedTransaction | null>;
  /** The highest nonce saved for the sender + 1; 0 when there is none. */
  abstract nextNonce(sender: string): Promise<number>;
  /** Null when another took the nonce or the pair meanwhile. */
  abstract save(signed: {
    readonly sender: string;
    readonly nonce: number;
    readonly purpose: string;
    readonly ref: string;
    readonly raw: string;
    readonly hash: string;
  }): Promise<SavedTransaction | null>;
  /** The same nonce and purpose at a higher fee; null when the old one is not open any more. */
  abstract replace(old: SavedTransaction, raw: string, hash: string): Promise<SavedTransaction | null>;
  /** Saved or sent, by nonce. */
  abstract open(sender: string): Promise<readonly SavedTransaction[]>;
  /** All that were ever signed for a nonce: any of them may be the one that was mined. */
  abstract ofNonce(sender: string, nonce: number): Promise<readonly SavedTransaction[]>;
  /** Confirmed or failed in a block of this number or above: a reorganisation may have taken them back. */
  abstract minedSince(sender: string, block: bigint): Promise<readonly SavedTransaction[]>;
  abstract markSent(id: string): Promise<void>;
  /** The winner of its nonce is final; the others of the nonce are replaced. */
  abstract markMined(transaction: SavedTransaction, mined: Mined): Promise<void>;
  /** Its block is gone: it is open again. */
  abstract reopen(id: string): Promise<void>;
}
