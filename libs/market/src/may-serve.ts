import {
  ANY_NODE,
  countedKinds,
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
import { fitsNode, type MemoryListed } from './model-facts.ts';
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

/** A model that a node offers, as far as it decides whether it may serve. */
type Offered = Pick<
  OfferModel,
  'name' | 'quantisation' | 'contextTokens' | 'slots' | 'memory' | 'loaded' | 'rates' | 'caps'
>;

export const ANY_TERMS: ServeTerms = { region: null, rateCaps: null, wearsAdapter: false, needs: ANY_NODE };

export function serveTermsOf(job: Pick<JobView, 'region' | 'rateCaps' | 'tuned' | 'metadata'>): ServeTerms {
  const { region, rateCaps, tuned, metadata } = job;
  return { region, rateCaps, wearsAdapter: tuned !== null, needs: nodeNeedsOf(metadata) };
}

export function mayServe(
  { region, rateCaps, wearsAdapter, needs }: ServeTerms,
  offer: Pick<Offer, 'node' | 'region' | 'pools' | 'gpus' | 'memoryMib' | 'isolation'>,
  model: Offered,
  {
    reputation,
    hasRun,
    listed,
  }: { readonly reputation: number; readonly hasRun: boolean; readonly listed: MemoryListed | undefined },
): boolean {
  if (!isInRegion(region, offer.region) || (wearsAdapter && !model.caps.lora)) return false;
  if (!fitsNode(model, offer, listed, hasRun)) return false;
  // What a pool's node does for nothing it does for its pool.
  const rates = unitsFromJson(model.rates);
  if (offer.pools.length > 0 && isFree(rates, rateCaps)) return false;
  if (rateCaps !== null && !withinCaps(rates, rateCaps)) return false;
  return needs === ANY_NODE || unmetNeed(needs, offer, reputation) === null;
}

/** Of the kinds of unit that a job counts, or of all while nobody knows which. */
function isFree(rates: Rates, rateCaps: Rates | null): boolean {
  return rateCaps === null
    ? Object.values(rates).every((rate) => rate === 0n)
    : countedKinds(rateCaps).every((kind) => (rates[kind] ?? 0n) === 0n);
}

export interface NodesPace extends MarketPace {
  /** Part of the speed of all nodes of the model. */
  readonly share: number;
  /** The nodes. */
  readonly nodeIds: readonly string[];
}

/** What the live nodes that may serve certain rows of a model can do. */
export function paceOf(
  nodes: readonly Pick<ConnectedNode, 'id' | 'offer' | 'draining'>[],
  records: ReadonlyMap<string, NodeRecord>,
  model: string,
  terms: ServeTerms,
  listed?: MemoryListed,
): NodesPace {
  const all: NodeSpeed[] = [];
  const able: NodeSpeed[] = [];
  const nodeIds: string[] = [];
  for (const { id, offer, draining } of nodes) {
    const record = records.get(id);
    if (record === undefined || draining || record.benchedForMs > 0) continue;
    const may = (one: OfferModel): boolean => {
      const hasRun = record.speed[one.digest] !== undefined;
      return mayServe(terms, offer, one, { reputation: reputationOf(record), hasRun, listed });
    };
    const named = offer.engines.flatMap(({ models }) => models.filter(({ name }) => name === model));
    // Of several that a node has of this name, one that may serve would.
    const fitting = named.find(may);
    const served = fitting ?? named[0];
    if (served === undefined) continue;
    const speed = { measured: record.speed[served.digest] ?? 0, claimed: served.rowsPerSecond };
    all.push(speed);
    if (fitting === undefined) continue;
    able.push(speed);
    nodeIds.push(id);
  }
  const [pace, market] = [marketPace(able, all), marketPace(all)];
  const isKnown = pace.rowsPerSecond !== null && market.rowsPerSecond !== null && market.rowsPerSecond > 0;
  return { ...pace, nodeIds, share: isKnown ? (pace.rowsPerSecond ?? 0) / (market.rowsPerSecond ?? 1) : 1 };
}
