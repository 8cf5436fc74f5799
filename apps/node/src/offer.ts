import { join } from 'node:path';
import type { Signer } from '@freehold/market';
import { Offer, type SignedOffer } from '@freehold/protocol';
import { offerMessage } from '@freehold/wiring/node';
import { writeDurably } from './durable-files.ts';
import { readForgettable, type DamageLog } from './kept-json.ts';

/** An offer holds for a day, and is renewed well before. */
const OFFER_S = 86_400;
export const OFFER_RENEW_MS = (OFFER_S * 1_000) / 4;

export type OfferFacts = Omit<Offer, 'v' | 'seq' | 'expiresAt'>;

/** The node's current offer, and its signature under each coordinator's chain and contract. */
export class OfferDesk {
  readonly #facts: () => OfferFacts;
  readonly #path: string;
  #seq: number;
  #offer: Offer | null = null;
  readonly #signed = new Map<string, SignedOffer>();

  private constructor(facts: () => OfferFacts, path: string, seq: number) {
    this.#facts = facts;
    this.#path = path;
    this.#seq = seq;
  }

  /** Where the last number is lost, the clock's is above it: each was at least the second of its day. */
  static async open(dataDir: string, facts: () => OfferFacts, log: DamageLog): Promise<OfferDesk> {
    const path = join(dataDir, 'offer-seq');
    return new OfferDesk(facts, path, (await readForgettable(path, Offer.shape.seq, log)) ?? 0);
  }

  /** Makes a new offer from the facts as they are. Its number is on the disk before it is used: it never falls. */
  async renew(nowS: number): Promise<void> {
    this.#seq = Math.max(this.#seq + 1, nowS);
    await writeDurably(this.#path, String(this.#seq));
    this.#offer = { v: 1, ...this.#facts(), seq: this.#seq, expiresAt: nowS + OFFER_S };
    this.#signed.clear();
  }

  async signedFor(coordinator: string, signer: Signer): Promise<SignedOffer> {
    const offer = this.#offer;
    if (offer === null) throw new Error('There is no offer yet.');
    const known = this.#signed.get(coordinator);
    if (known !== undefined) return known;
    const signed = { offer, signature: await signer.sign('Offer', offerMessage(offer)) };
    this.#signed.set(coordinator, signed);
    return signed;
  }
}
