import { Controller, Get, Param } from '@nestjs/common';
import { explainOffer, LeaseStore, ProviderLink, Standstills } from '@freehold/market';
import { notFound } from '@freehold/protocol';
import { Needs } from '../accounts/needs.ts';

/** What the market thinks of a node: for its owner, who sees the same numbers as everybody. */
@Controller('market/v1/nodes')
@Needs('market')
export class NodesController {
  readonly #leases: LeaseStore;
  readonly #link: ProviderLink;
  readonly #standstills: Standstills;

  constructor(leases: LeaseStore, link: ProviderLink, standstills: Standstills) {
    this.#leases = leases;
    this.#link = link;
    this.#standstills = standstills;
  }

  /** The open jobs as the node stands among the others: what it lost and why, and the price that would have won. */
  @Get(':id/explain')
  async explain(@Param('id') id: string): Promise<Record<string, unknown>> {
    const explanation = await explainOffer(
      { leases: this.#leases, link: this.#link, standstills: this.#standstills },
      id,
    );
    if (explanation === null) throw notFound('node', id);
    return { object: 'node_explanation', node: id, ...explanation };
  }
}
