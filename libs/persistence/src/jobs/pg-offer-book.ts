import { HERE_MS, inSlices, OfferBook, OFFERS_READ_MAX, type StandingOffer } from '@freehold/market';
import { Offer } from '@freehold/protocol';
import type { Database } from '../database.ts';

interface OfferRow {
  readonly offer: unknown;
  readonly away_ms: number | null;
}

export class PgOfferBook extends OfferBook {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  async offers(): Promise<readonly StandingOffer[]> {
    const rows = await this.#database.query<OfferRow>(OFFERS, [OFFERS_READ_MAX, HERE_MS]);
    // Offers were checked when they came; one of an older version is left out rather than believed.
    const offers = await inSlices(rows, ({ offer, away_ms: awayMs }) => {
      const parsed = Offer.safeParse(offer);
      if (!parsed.success) return [];
      return [awayMs === null ? parsed.data : { ...parsed.data, awayMs }];
    });
    return offers.flat();
  }
}

/** While a scheduler has only just taken its shards, nobody can say of a node that it stays away. */
const OFFERS = `
SELECT offer, CASE
    WHEN last_seen_at > now.at - here.span AND (benched_until IS NULL OR benched_until <= now.at) THEN NULL
    WHEN EXISTS (SELECT 1 FROM shard WHERE held_at > now.at - here.span) THEN 0
    ELSE greatest(0, extract(epoch FROM now.at - last_seen_at) * 1000)
  END::float8 AS away_ms
FROM node, (SELECT clock_timestamp() AS at) AS now, (SELECT $2 * interval '1 millisecond' AS span) AS here
WHERE offer_expires_at > now.at ORDER BY last_seen_at DESC LIMIT $1`;
