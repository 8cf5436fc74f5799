import {
  capFor,
  holdFor,
  withinCaps,
  type Amount,
  type MaxCostFor,
  type NodeNeeds,
  type Rates,
  type Usage,
} from '@freehold/domain';
import { formatMoney, parseMoney, type BatchEndpoint, type Catalogue } from '@freehold/protocol';
import { knownModel, knownTrainer, postedFor, trainersOf, type KnownModel } from './known-models.ts';
import type { JobView } from './ports/job-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import type { OfferBook, StandingOffer } from './ports/offer-book.ts';
import { lookInto } from './refuse-unaffordable.ts';
import { offersMeeting } from './unmet-need.ts';

/** Costs tried above the least that would cover the rates asked for: a dearer list that mixes its rates otherwise may come in between. */
const TRIES_MAX = 16;

/** What decides which rates a job admits, as `capFor` takes it. */
export interface Priced {
  readonly worst: Usage;
  /** As it is asked for now. */
  readonly maxCost: Amount | null;
  readonly ceiling: Rates | null;
  /** The price lists of those who may do what is asked of their nodes. */
  readonly posted: (region: string | null, needs: NodeNeeds) => readonly Rates[];
}

/** What rows that are known to the last one are priced by. */
export function pricedAs(model: KnownModel, worst: Usage, maxCost: Amount | null): Priced {
  return { worst, maxCost, ceiling: model.ceiling, posted: (region, needs) => postedFor(model, region, needs) };
}

/** The same of training a base. */
export function pricedAsTraining(
  base: string,
  { catalogue, offers }: { readonly catalogue: Catalogue; readonly offers: readonly StandingOffer[] },
  worst: Usage,
  maxCost: Amount | null,
): Priced {
  const trainers = trainersOf(base, offers);
  const posted = (region: string | null, needs: NodeNeeds): readonly Rates[] =>
    knownTrainer(base, catalogue, offersMeeting(trainers, region, needs)).posted;
  return { worst, maxCost, ceiling: knownTrainer(base, catalogue, trainers).ceiling, posted };
}

/** By trying: what is named is what the same job, submitted with it, would be admitted by. */
export function maxCostFor({ worst, maxCost, ceiling, posted }: Priced): MaxCostFor {
  return (less, rates) => {
    const lists = posted(less.regions.length === 0 ? null : less.regions.join(','), less);
    const admits = (cost: Amount | null): boolean => {
      const cap = capFor(worst, cost, lists, ceiling);
      return cap.ok && withinCaps(rates, cap.rateCaps);
    };
    if (admits(maxCost)) return undefined;
    const least = holdFor(worst, rates);
    const dearer = [...new Set(lists.map((list) => holdFor(worst, list)).filter((cost) => cost > least))];
    dearer.sort((a, b) => (a < b ? -1 : 1));
    const cost = [least, ...dearer.slice(0, TRIES_MAX)].find(admits);
    return cost === undefined ? null : formatMoney(cost);
  };
}

export interface PriceJobPorts {
  readonly objects: Pick<ObjectStore, 'size' | 'read'>;
  readonly offers: OfferBook;
  readonly catalogue: Catalogue;
}

/** What a batch that was taken is priced by, from its file; undefined where that is not read through in a moment, or not there any more. */
export async function pricedJob(
  { objects, offers, catalogue }: PriceJobPorts,
  { kind, endpoint, model: name, inputFileId, metadata }: JobView,
): Promise<Priced | undefined> {
  if (kind !== 'batch' || inputFileId === null || name === null) return undefined;
  const model = knownModel(name, catalogue, await offers.offers());
  const of = { fileId: inputFileId, endpoint: endpoint as BatchEndpoint };
  const seen = model === null ? null : await lookInto(objects, of, () => Promise.resolve(model));
  if (model === null || seen === null || seen.rows !== seen.rowsRead) return undefined;
  return pricedAs(model, seen.worst, parseMoney(metadata['max_cost'] ?? ''));
}
