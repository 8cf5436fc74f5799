import type { Offer } from '@freehold/protocol';

/**
 * A scheduler says so often which nodes of its shards stand ready for work: one statement, whatever they do. A lone statement that fails
 * takes nobody out of the book, nor does a node that starts anew, nor another scheduler that takes over.
 */
export const SEEN_EVERY_MS = 30_000;
/** Whose offer can be leased from now: three times as long as a scheduler is silent of it. */
export const HERE_MS = 3 * SEEN_EVERY_MS;

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
