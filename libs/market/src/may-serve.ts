import {
  ANY_NODE,
  marketPace,
  reputationOf,
  unitsFromJson,
  withinCaps,
  type MarketPace,
  type NodeNeeds,
  type NodeSpeed,
  type Rates,
} from '@freehold/domain';
import { isInRegion, nodeNeedsOf, type Offer, type OfferModel } from '@freehold/protocol';
import type { JobView } from './ports/job-store.ts';
import type { NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';
import { unmetNeed } from './unmet-need.ts';

/** What keeps some of the nodes that offer a model from certain rows, whatever they do at the moment. */
export interface ServeTerms {
  /** As `metadata.region`; null: anywhere. */
  readonly region: string | null;
  /** Null: not known yet. */
  readonly rateCaps: Rates | null;
  /** A fine-tune answers them. */
  readonly wearsAdapter: boolean;
  readonly needs: NodeNeeds;
}

export const ANY_TERMS: ServeTerms = { region: null, rateCaps: null, wearsAdapter: false, needs: ANY_NODE };

export function serveTermsOf(job: Pick<JobView, 'region' | 'rateCaps' | 'tuned' | 'metadata'>): ServeTerms {
  const { region, rateCaps, tuned, metadata } = job;
  return { region, rateCaps, wearsAdapter: tuned !== null, needs: nodeNeedsOf(metadata) };
}

export function mayServe(
  { region, rateCaps, wearsAdapter, needs }: ServeTerms,
  offer: Pick<Offer, 'node' | 'region' | 'gpus' | 'isolation'>,
  model: Pick<OfferModel, 'rates' | 'caps'>,
  reputation: number,
): boolean {
  if (!isInRegion(region, offer.region) || (wearsAdapter && !model.caps.lora)) return false;
  if (rateCaps !== null && !withinCaps(unitsFromJson(model.rates), rateCaps)) return false;
  return needs === ANY_NODE || unmetNeed(needs, offer, reputation) === null;
}

export interface NodesPace extends MarketPace {
  /** Part of the speed of all nodes of the model. */
  readonly share: number;
}

/** What the live nodes that may serve certain rows of a model can do. */
export function paceOf(
  nodes: readonly Pick<ConnectedNode, 'id' | 'offer' | 'draining'>[],
  records: ReadonlyMap<string, NodeRecord>,
  model: string,
  terms: ServeTerms,
): NodesPace {
  const all: NodeSpeed[] = [];
  const able: NodeSpeed[] = [];
  for (const { id, offer, draining } of nodes) {
    const record = records.get(id);
    const served = offer.engines.flatMap(({ models }) => models).find(({ name }) => name === model);
    if (record === undefined || served === undefined || draining || record.benchedForMs > 0) continue;
    const speed = { measured: record.speed[served.digest] ?? 0, claimed: served.rowsPerSecond };
    all.push(speed);
    if (mayServe(terms, offer, served, reputationOf(record))) able.push(speed);
  }
  const [pace, market] = [marketPace(able, all), marketPace(all)];
  const isKnown = pace.rowsPerSecond !== null && market.rowsPerSecond !== null && market.rowsPerSecond > 0;
  return { ...pace, share: isKnown ? (pace.rowsPerSecond ?? 0) / (market.rowsPerSecond ?? 1) : 1 };
}
