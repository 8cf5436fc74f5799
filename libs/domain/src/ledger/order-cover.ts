import type { Amount } from '../units/units.ts';

/** An order of an organisation, as far as it pays for work. */
export interface PayingOrder {
  readonly state: 'open' | 'closing' | 'refunded' | 'gone';
  /** The last epoch in which work may be charged to it; null while it does not close. */
  readonly closeEpoch: bigint | null;
  readonly reserved: Amount;
  readonly spent: Amount;
}

/**
 * What may still be charged for work that is accepted in the epoch after the open one; null while none of the orders closes: then
 * everything that is held is covered. Work takes a while from its lease to its acceptance, so what the open epoch alone covers is
 * left for what is under way.
 */
export function coveredBy(orders: readonly PayingOrder[], openEpoch: bigint | null): Amount | null {
  if (!orders.some(({ state }) => state === 'closing' || state === 'refunded')) return null;
  const covers = ({ state, closeEpoch }: PayingOrder): boolean =>
    state === 'open' || (state === 'closing' && (openEpoch === null || closeEpoch === null || closeEpoch > openEpoch));
  return orders.filter(covers).reduce((sum, { reserved, spent }) => sum + reserved - spent, 0n);
}

/** Why a job whose hold no order covers any more is cancelled. */
export const UNCOVERED = {
  code: 'order_closing',
  message:
    'The order on chain that pays for this was closed and does not cover the next epoch. What was delivered until now is paid and kept; open another order to have the rest done.',
} as const;
