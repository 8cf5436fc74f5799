import { Controller, Get, Inject, Param } from '@nestjs/common';
import {
  explainOffer,
  ExplainTurns,
  LeaseStore,
  memoryListed,
  ProviderLink,
  Standstills,
  type KeyRecord,
  type MemoryListed,
} from '@freehold/market';
import { ApiError, printable } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';

/** What the market thinks of a node: for its owner, who sees the same numbers as everybody. */
@Controller('market/v1/nodes')
@Needs('market')
export class NodesController {
  readonly #leases: LeaseStore;
  readonly #link: ProviderLink;
  readonly #standstills: Standstills;
  readonly #turns: ExplainTurns;

  readonly #listed: MemoryListed;

  constructor(
    leases: LeaseStore,
    link: ProviderLink,
    standstills: Standstills,
    turns: ExplainTurns,
    @Inject(API_SETTINGS) settings: ApiSettings,
  ) {
    this.#leases = leases;
    this.#link = link;
    this.#standstills = standstills;
    this.#turns = turns;
    this.#listed = memoryListed(settings.catalogue);
  }

  /** The open jobs as the node stands among the others: what it lost and why, and the price that would have won. */
  @Get(':id/explain')
  async explain(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const ports = {
      ...{ leases: this.#leases, link: this.#link, standstills: this.#standstills },
      listed: this.#listed,
    };
    const explanation = await this.#turns.take(() => explainOffer(ports, id, caller.orgId));
    if (explanation === null) throw notConnected(id);
    return { object: 'node_explanation', node: id, ...explanation };
  }
}

/** Nodes are nobody's but their owners', and the market explains those that it sees. */
function notConnected(id: string): ApiError {
  return new ApiError({
    status: 404,
    type: 'invalid_request_error',
    code: 'node_not_found',
    message: `No node with id '${printable(id, 64)}' is connected now: expected the peer id of one that this process sees (GET /market/v1/offers gives its "free_slots"), or start it.`,
  });
}
