import { OfferBook } from '@freehold/market';
import { Offer } from '@freehold/protocol';
import type { Database } from '../database.ts';

const OFFERS_MAX = 5_000;

export class PgOfferBook extends OfferBook {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  async offers(): Promise<readonly Offer[]> {
    const rows = await this.#database.query<{ offer: unknown }>(
      'SELECT offer FROM node WHERE offer_expires_at > clock_timestamp() ORDER BY last_seen_at DESC LIMIT $1',
      [OFFERS_MAX],
    );
    // Offers were checked when they came; one of an older version is left out rather than believed.
    return rows.flatMap(({ offer }) => {
      const parsed = Offer.safeParse(offer);
      return parsed.success ? [parsed.data] : [];
    });
  }
}
