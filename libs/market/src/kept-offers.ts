import type { Offer } from '@freehold/protocol';
import type { OfferBook } from './ports/offer-book.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** From this age on a use of the offers renews them, without waiting for the answer. */
const FRESH_MS = 1_000;
/** From this age on the answer is waited for: nodes come and go, and change their prices, within minutes. */
const KEPT_MS = 4_000;

/** The offers of a moment ago, for what somebody waits for. Only a yes may rest on them: a no is looked at anew. */
export class KeptOffers {
  readonly #book: OfferBook;
  readonly #clock: MonotonicClock;
  #kept: { readonly offers: readonly Offer[]; readonly atMs: number } | null = null;
  #asking: Promise<readonly Offer[]> | null = null;

  constructor(book: OfferBook, clock: MonotonicClock) {
    this.#book = book;
    this.#clock = clock;
  }

  async offers(): Promise<readonly Offer[]> {
    const kept = this.#kept;
    const ageMs = kept === null ? Number.POSITIVE_INFINITY : this.#clock.nowMs() - kept.atMs;
    if (kept === null || ageMs >= KEPT_MS) return await this.#ask();
    // A failure shows at the submission that has to wait for the answer.
    if (ageMs >= FRESH_MS) this.#ask().catch(() => undefined);
    return kept.offers;
  }

  /** Its age counts from when it was asked for. */
  #ask(): Promise<readonly Offer[]> {
    const atMs = this.#clock.nowMs();
    this.#asking ??= this.#book
      .offers()
      .then((offers) => {
        this.#kept = { offers, atMs };
        return offers;
      })
      .finally(() => {
        this.#asking = null;
      });
    return this.#asking;
  }
}
