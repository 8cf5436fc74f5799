/** Where a log stands on the chain. */
export interface LogPlace {
  readonly blockNumber: bigint;
  readonly blockHash: string;
  readonly logIndex: number;
}

/** An index of the book (order or payee) and an amount. */
export type Lane = readonly [index: number, amount: bigint];

/** What the escrow did to our book, as its contract says it. Addresses in lower case, amounts in the token's smallest unit. */
export type ChainFact =
  | {
      readonly name: 'BookOpened';
      readonly delegate: string;
      readonly feeBps: number;
      readonly startsAt: bigint;
      readonly epochSeconds: number;
      readonly windowSeconds: number;
      readonly graceSeconds: number;
    }
  | { readonly name: 'BookDied'; readonly why: string }
  | { readonly name: 'BondAdded'; readonly amount: bigint }
  | { readonly name: 'BondTaken'; readonly amount: bigint }
  | { readonly name: 'PayeeAdded'; readonly index: number; readonly payee: string }
  | {
      readonly name: 'OrderOpened';
      readonly order: number;
      readonly payer: string;
      readonly refundTo: string;
      readonly params: string;
      readonly reserved: bigint;
      readonly free: bigint;
    }
  | { readonly name: 'OrderToppedUp'; readonly order: number; readonly reserved: bigint; readonly free: bigint }
  | { readonly name: 'OrderClosing'; readonly order: number; readonly closeEpoch: bigint }
  | { readonly name: 'OrderRefunded'; readonly order: number; readonly reserved: bigint; readonly free: bigint }
  | {
      readonly name: 'EpochPosted';
      readonly epoch: bigint;
      readonly debits: readonly Lane[];
      readonly credits: readonly Lane[];
    }
  | { readonly name: 'EpochStruck'; readonly epoch: bigint; readonly payee: number; readonly penalty: bigint }
  | {
      readonly name: 'EpochFinal';
      readonly epoch: bigint;
      readonly debits: bigint;
      readonly credits: bigint;
      readonly fee: bigint;
    }
  | {
      readonly name: 'VoucherRedeemed';
      readonly order: number;
      readonly payee: number;
      readonly gross: bigint;
      readonly fee: bigint;
    }
  | {
      readonly name: 'VouchersCashed';
      readonly payee: number;
      readonly epoch: bigint;
      readonly cashed: readonly Lane[];
    }
  | { readonly name: 'Withdrawn'; readonly sent: readonly Lane[] };

export type ChainEvent = LogPlace & ChainFact;

export interface ChainHead {
  readonly number: bigint;
  readonly hash: string;
  /** Seconds of chain time: what epochs and windows are measured by. */
  readonly timestamp: bigint;
}

export interface BookNow {
  readonly stage: 'waiting' | 'posted' | 'struck' | 'amended' | 'dead';
  /** First epoch that is not final. */
  readonly next: bigint;
  readonly startsAt: bigint;
  readonly epochSeconds: bigint;
  readonly windowSeconds: bigint;
  readonly postedAt: bigint;
  /** The most that an epoch may leave to the coordinator. */
  readonly feeBps: number;
}

/** What our book holds on chain at one block: lanes of all orders, balances of all payees, the bond. */
export interface BookHoldings {
  readonly block: bigint;
  readonly lanes: bigint;
  readonly balances: bigint;
  readonly bond: bigint;
  /** The contract's whole token balance, other books and debts included. */
  readonly tokens: bigint;
}

/** A call to the escrow, ready to be signed. */
export interface EscrowCall {
  readonly to: string;
  readonly data: string;
}

/** Our book in the escrow: reads, and calls for a {@link ChainSender}. */
export abstract class Escrow {
  abstract readonly book: string;
  abstract head(): Promise<ChainHead>;
  /** The hash of a block of the chain as it is now; null beyond its head. */
  abstract hashOf(block: bigint): Promise<string | null>;
  /** Our book's events of the blocks [from, to], in order. */
  abstract events(from: bigint, to: bigint): Promise<readonly ChainEvent[]>;
  abstract bookNow(): Promise<BookNow>;
  abstract payeeBalance(index: number): Promise<bigint>;
  abstract holdings(block: bigint): Promise<BookHoldings>;

  abstract addPayee(payee: string): EscrowCall;
  abstract post(epoch: bigint, debits: ReadonlyMap<number, bigint>, credits: ReadonlyMap<number, bigint>): EscrowCall;
  abstract finalise(debits: ReadonlyMap<number, bigint>, credits: ReadonlyMap<number, bigint>): EscrowCall;
  abstract withdraw(payees: readonly number[]): EscrowCall;
  abstract refund(order: number): EscrowCall;
}
