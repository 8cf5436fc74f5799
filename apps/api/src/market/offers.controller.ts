import { Controller, Get, Query } from '@nestjs/common';
import { isHere, OfferBook, ProviderLink } from '@freehold/market';
import type { Offer } from '@freehold/protocol';
import { Needs } from '../accounts/needs.ts';

const OFFERS_SHOWN_MAX = 500;

/** What nodes offer now: prices are public, machines are named by their address only. */
@Controller('market/v1/offers')
@Needs('market')
export class OffersController {
  readonly #offers: OfferBook;
  readonly #link: ProviderLink;

  constructor(offers: OfferBook, link: ProviderLink) {
    this.#offers = offers;
    this.#link = link;
  }

  @Get()
  async list(@Query('model') model: unknown): Promise<Record<string, unknown>> {
    const seen = new Map(this.#link.nodes().map((node) => [node.id, node]));
    const offers = (await this.#offers.offers()).filter((offer) => typeof model !== 'string' || serves(offer, model));
    const data = offers.slice(0, OFFERS_SHOWN_MAX).map((offer) => ({
      object: 'offer',
      node: offer.node,
      address: offer.address,
      region: offer.region,
      isolation: offer.isolation,
      gpus: offer.gpus,
      memory_mib: offer.memoryMib,
      engines: offer.engines,
      expires_at: offer.expiresAt,
      // To this process, or to the scheduler of its shard; what follows is known of the former alone.
      connected: seen.has(offer.node) || isHere(offer),
      free_slots: seen.get(offer.node)?.freeSlots ?? null,
      draining: seen.get(offer.node)?.draining ?? null,
    }));
    return { object: 'list', data, has_more: offers.length > OFFERS_SHOWN_MAX };
  }
}

function serves(offer: Offer, model: string): boolean {
  return offer.engines.some((engine) => engine.models.some((offered) => offered.name === model));
}
