import {
  ANY_NODE,
  holdFor,
  pricesOf,
  withinCaps,
  type Amount,
  type JobPrices,
  type MaxCostFor,
  type NodeNeeds,
  type Rates,
  type Steps,
  type Usage,
} from '@freehold/domain';
import { formatMoney, parseMoney, type BatchEndpoint, type Catalogue } from '@freehold/protocol';
import { inSteps } from './in-slices.ts';
import { knowingModel, knownTrainer, postedAmong, type KnownModel } from './known-models.ts';
import { lookInto } from './look-into.ts';
import type { JobView } from './ports/job-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import type { OfferBook, StandingOffer } from './ports/offer-book.ts';

/** Costs tried above the least that would cover the rates asked for: a dearer list that mixes its rates otherwise may come in between. */
const TRIES_MAX = 16;

/** What decides which rates a job admits, as `capFor` takes it. */
export interface Priced {
  readonly worst: Usage;
  /** As it is asked for now. */
  readonly maxCost: Amount | null;
  readonly ceiling: Rates | null;
  /** The price lists of those who may do what is asked of their nodes. */
  readonly posted: (region: string | null, needs: NodeNeeds) => Steps<readonly Rates[]>;
}

/** What rows that are known to the last one are priced by. */
export function pricedAs(model: KnownModel, worst: Usage, maxCost: Amount | null): Priced {
  const { ceiling, offered } = model;
  return { worst, maxCost, ceiling, posted: (region, needs) => postedAmong(offered, region, needs) };
}

/** The same of training a base. */
export function pricedAsTraining(
  base: string,
  { catalogue, offers }: { readonly catalogue: Catalogue; readonly offers: readonly StandingOffer[] },
  worst: Usage,
  maxCost: Amount | null,
): Priced {
  const { lists, ceiling } = knownTrainer(base, catalogue, offers);
  return { worst, maxCost, ceiling, posted: (region, needs) => postedAmong(lists, region, needs) };
}

/** What the job costs by the prices of those who may do it, as it is asked for now. */
export function* pricesFor(
  { worst, ceiling, posted }: Priced,
  region: string | null,
  needs: NodeNeeds,
): Steps<JobPrices> {
  return yield* pricesOf(worst, yield* posted(region, needs), ceiling);
}

/**
 * By trying: what is named is what the same job, submitted with it, would be admitted by. What several changes have in common is looked
 * at once: who may do it, and what they cost.
 */
export function maxCostFor(priced: Priced): MaxCostFor {
  const { worst, maxCost } = priced;
  const known = new Map<string, JobPrices>();
  return function* (less, rates) {
    const region = less.regions.length === 0 ? null : less.regions.join(',');
    const key = JSON.stringify([region, ...NEEDS.map((need) => less[need])]);
    const prices = known.get(key) ?? (yield* pricesFor(priced, region, less));
    known.set(key, prices);
    const admits = (cost: Amount | null): boolean => {
      const cap = prices.cap(cost);
      return cap.ok && withinCaps(rates, cap.rateCaps);
    };
    if (admits(maxCost)) return undefined;
    const least = holdFor(worst, rates);
    const cost = [least, ...prices.costsAbove(least, TRIES_MAX)].find(admits);
    return cost === undefined ? null : formatMoney(cost);
  };
}

/** All that prices depend on of what is asked of a node. */
const NEEDS = Object.keys(ANY_NODE) as (keyof NodeNeeds)[];

export interface PriceJobPorts {
  readonly objects: Pick<ObjectStore, 'size' | 'read'>;
  readonly offers: Pick<OfferBook, 'offers'>;
  readonly catalogue: Catalogue;
}

/** What a batch that was taken is priced by, from its file; undefined where that is not read through in a moment, or not there any more. */
export async function pricedJob(
  { objects, offers, catalogue }: PriceJobPorts,
  { kind, endpoint, model: name, inputFileId, metadata }: JobView,
): Promise<Priced | undefined> {
  if (kind !== 'batch' || inputFileId === null || name === null) return undefined;
  const model = await inSteps(knowingModel(name, catalogue, await offers.offers()));
  const of = { fileId: inputFileId, endpoint: endpoint as BatchEndpoint };
  const seen = model === null ? null : await lookInto(objects, of, () => Promise.resolve(model));
  if (model === null || seen === null || seen.rows !== seen.rowsRead) return undefined;
  return pricedAs(model, seen.worst, parseMoney(metadata['max_cost'] ?? ''));
}
