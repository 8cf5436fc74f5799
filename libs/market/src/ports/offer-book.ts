import type { Offer } from '@freehold/protocol';

/** The posted offers that have not expired, whichever process their nodes are connected to. */
export abstract class OfferBook {
  abstract offers(): Promise<readonly Offer[]>;
}
