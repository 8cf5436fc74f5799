import type { Amount } from '@freehold/domain';
import type { ChainEvent } from './ports/escrow.ts';

/** A change of what we keep of the chain, beside the ledger. */
export type ChainChange =
  | { readonly of: 'book'; readonly state: 'alive' | 'dead' }
  | {
      readonly of: 'order';
      readonly order: number;
      readonly state: 'open' | 'closing' | 'refunded' | 'gone';
      /** The last epoch of a closing order; undefined where it stays what it was. An open order has none. */
      readonly closeEpoch?: bigint;
    }
  | { readonly of: 'lanes'; readonly order: number; readonly reserved: Amount; readonly free: Amount }
  | { readonly of: 'epoch'; readonly epoch: bigint; readonly state: 'closed' | 'posted' | 'final' };

/**
 * What an event changes, and what takes it back when the event is not on the chain any more; whatever it was about may come again
 * in another block. Null: nothing, or something new that a store writes down from the event itself.
 */
export function changeOfEvent(
  event: ChainEvent,
): { readonly made: ChainChange | null; readonly undone: ChainChange } | null {
  switch (event.name) {
    case 'BookDied':
      return { made: { of: 'book', state: 'dead' }, undone: { of: 'book', state: 'alive' } };
    case 'OrderOpened':
      return { made: null, undone: { of: 'order', order: event.order, state: 'gone' } };
    case 'OrderToppedUp': {
      const { order, reserved, free } = event;
      return {
        made: { of: 'lanes', order, reserved, free },
        undone: { of: 'lanes', order, reserved: -reserved, free: -free },
      };
    }
    case 'OrderClosing': {
      const { order, closeEpoch } = event;
      return {
        made: { of: 'order', order, state: 'closing', closeEpoch },
        undone: { of: 'order', order, state: 'open' },
      };
    }
    case 'OrderRefunded': {
      const { order } = event;
      return { made: { of: 'order', order, state: 'refunded' }, undone: { of: 'order', order, state: 'closing' } };
    }
    case 'EpochPosted': {
      const { epoch } = event;
      return { made: { of: 'epoch', epoch, state: 'posted' }, undone: { of: 'epoch', epoch, state: 'closed' } };
    }
    case 'EpochFinal': {
      const { epoch } = event;
      return { made: { of: 'epoch', epoch, state: 'final' }, undone: { of: 'epoch', epoch, state: 'posted' } };
    }
    case 'BookOpened':
    case 'PayeeAdded':
    case 'BondAdded':
    case 'BondTaken':
    case 'EpochStruck':
    case 'VoucherRedeemed':
    case 'VouchersCashed':
    case 'Withdrawn':
      return null;
  }
}
