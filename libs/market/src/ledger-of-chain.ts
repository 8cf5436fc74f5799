import { ledger, type AccountRef, type Amount, type LedgerEntry } from '@freehold/domain';
import type { ChainEvent } from './ports/escrow.ts';

/** What an event's indices stand for, read from what was applied before it. */
export interface ChainNames {
  /** Whose money the reserved lane of this order is. */
  lane(order: number): AccountRef;
  payee(index: number): string;
  /** Credits by payee index of the last posting of this epoch. */
  posted(epoch: bigint): ReadonlyMap<number, Amount>;
  readonly delegate: string;
}

/** The free lane is the payer's own to promise: it is nobody's balance with us, but it is in the escrow. */
export function freeLaneOf(order: number): AccountRef {
  return ledger.balanceOf(`free-lane:${order}`);
}

/** A lane whose payer we do not know: kept apart, given back by a refund. */
export function unclaimedLaneOf(payer: string): AccountRef {
  return ledger.balanceOf(`unclaimed:${payer}`);
}

/** The one payee that is not a provider: it earns the book's fees. */
export const FEE_PAYEE = 0;

/**
 * What an event of our book means in the ledger: `escrow` stays minus what the book holds on chain, event by event.
 *
 * Debits of a final epoch write nothing: the charges took that money from its requesters when the work was accepted.
 *
 * @param ref Unique for this application of the event.
 */
export function ledgerOfChain(event: ChainEvent, names: ChainNames, ref: string): readonly LedgerEntry[] {
  switch (event.name) {
    case 'OrderOpened':
    case 'OrderToppedUp':
      return moves('deposit', ref, [
        [ledger.ESCROW, names.lane(event.order), event.reserved],
        [ledger.ESCROW, freeLaneOf(event.order), event.free],
      ]);
    case 'OrderRefunded':
      return moves('refund', ref, [
        [names.lane(event.order), ledger.ESCROW, event.reserved],
        [freeLaneOf(event.order), ledger.ESCROW, event.free],
      ]);
    case 'EpochFinal':
      // A provider that is paid at the delegate's own address shares the account of the fees.
      return [...names.posted(event.epoch)].flatMap(([index, credit]) =>
        moves('payout', `${ref}:${index}`, [[ledger.providerOf(names.payee(index)), creditOf(names, index), credit]]),
      );
    case 'VouchersCashed':
      return event.cashed.flatMap(([order, amount]) =>
        moves('payout', `${ref}:${order}`, [
          [ledger.providerOf(names.payee(event.payee)), creditOf(names, event.payee), amount],
        ]),
      );
    case 'VoucherRedeemed':
      return moves('payout', ref, [
        [freeLaneOf(event.order), creditOf(names, event.payee), event.gross - event.fee],
        [freeLaneOf(event.order), ledger.FEES, event.fee],
      ]);
    case 'Withdrawn':
      return event.sent.flatMap(([index, amount]) =>
        moves('withdrawal', `${ref}:${index}`, [[creditOf(names, index), ledger.ESCROW, amount]]),
      );
    case 'BondAdded':
      return moves('deposit', ref, [[ledger.ESCROW, ledger.bondOf(names.delegate), event.amount]]);
    case 'BondTaken':
      return moves('forfeit', ref, [[ledger.bondOf(names.delegate), ledger.ESCROW, event.amount]]);
    case 'EpochStruck': {
      // Half (rounded down) becomes the payee's credit, the rest is owed to the treasury outside of the book.
      const toPayee = event.penalty / 2n;
      return moves('forfeit', ref, [
        [ledger.bondOf(names.delegate), creditOf(names, event.payee), toPayee],
        [ledger.bondOf(names.delegate), ledger.ESCROW, event.penalty - toPayee],
      ]);
    }
    case 'BookOpened':
    case 'BookDied':
    case 'PayeeAdded':
    case 'OrderClosing':
    case 'EpochPosted':
      return [];
  }
}

/** What the chain owes this payee now. The coordinator's fees are in `fees` from the charge on. */
function creditOf(names: ChainNames, index: number): AccountRef {
  return index === FEE_PAYEE ? ledger.FEES : ledger.payoutOf(names.payee(index));
}

type Wanted = readonly [from: AccountRef, to: AccountRef, amount: Amount];

/** One entry of netted lines, or none when nothing moves. */
function moves(kind: LedgerEntry['kind'], ref: string, wanted: readonly Wanted[]): readonly LedgerEntry[] {
  const entry = ledger.entry(
    kind,
    ref,
    wanted.map(([from, to, amount]) => ledger.move(from, to, amount)),
  );
  return entry.postings.length === 0 ? [] : [entry];
}
