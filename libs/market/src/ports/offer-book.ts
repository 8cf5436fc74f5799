import type { Offer } from '@freehold/protocol';

/**
 * A scheduler says so often which nodes of its shards stand ready for work: one statement, whatever they do. A lone statement that fails
 * takes nobody out of the book, nor does a node that starts anew, nor another scheduler that takes over.
 */
export const SEEN_EVERY_MS = 30_000;
/** Whose offer can be leased from now: three times as long as a scheduler is silent of it. */
export const HERE_MS = 3 * SEEN_EVERY_MS;

/**
 * Offers that are read at once, for each batch that is submitted. Of more nodes nobody says which these are: they are noted some thousand
 * at a time, as one moment.
 */
export const OFFERS_READ_MAX = 5_000;

/** An offer that has not expired, and whether its node is here. */
export interface StandingOffer extends Offer {
  /**
   * For how long nobody could have leased from its node; absent: now. It counts while schedulers look: who began a moment ago says
   * 0 of everybody who has not come back to it yet, as of nodes that are here and benched.
   */
  readonly awayMs?: number;
}

/** The posted offers that have not expired, whichever process their nodes are connected to; who was seen last comes first. */
export abstract class OfferBook {
  abstract offers(): Promise<readonly StandingOffer[]>;
}

/** What a price, a count or a promise rests on: it can be leased from now. */
export function isHere({ awayMs }: StandingOffer): boolean {
  return awayMs === undefined;
}

/** What a refusal rests on: it may be here again within so long, as it has been away for no longer. */
export function mayReturn({ awayMs = 0 }: StandingOffer, withinMs: number): boolean {
  return awayMs <= Math.max(withinMs, HERE_MS);
}

/** Whether others may stand that were not read: then a node that is here may be one of them, and nothing is refused for want of it. */
export function isCut(offers: readonly StandingOffer[]): boolean {
  return offers.length >= OFFERS_READ_MAX;
}
