import { KeptAnswers, type Keeping } from './kept-answers.ts';
import type { OfferBook, StandingOffer } from './ports/offer-book.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** Nodes come and go, and change their prices, within minutes. */
const OFFERS: Keeping = { freshMs: 1_000, lateMs: 4_000 };

/** The offers of a moment ago, for what somebody waits for. Only a yes may rest on them: a no is looked at anew. */
export class KeptOffers {
  readonly #book: Pick<OfferBook, 'offers'>;
  readonly #kept: KeptAnswers;

  constructor(book: Pick<OfferBook, 'offers'>, clock: MonotonicClock) {
    this.#book = book;
    this.#kept = new KeptAnswers(clock, 1);
  }

  offers(): Promise<readonly StandingOffer[]> {
    return this.#kept.once('offers', () => this.#book.offers(), OFFERS);
  }
}
