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
import { kindServing } from './ask-of.ts';
import { inSteps } from './in-slices.ts';
import { knowingModel, knownTrainer, postedAmong, type KnownModel } from './known-models.ts';
import { lookInto } from './look-into.ts';
import { wearingAdapters } from './named-model.ts';
import type { JobView } from './ports/job-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import type { OfferBook, StandingOffer } from './ports/offer-book.ts';
import { baseOfTrainer } from './training/trainer-model.ts';

/** Costs of lists tried above the least that would cover the rates asked for: a dearer list that mixes its rates otherwise may come in between. */
const TRIES_MAX = 16;

/** What decides which rates a job admits, as `capFor` takes it. */
export interface Priced {
  readonly worst: Usage;
  /** As it is asked for now. */
  readonly maxCost: Amount | null;
  readonly ceiling: Rates | null;
  /** The price lists of those who may do what is asked of their nodes, and wear an adapter where a fine-tune answers. */
  readonly posted: (region: string | null, needs: NodeNeeds, wearsAdapter: boolean) => Steps<readonly Rates[]>;
}

/** What rows that are known to the last one are priced by. */
export function pricedAs(model: KnownModel, worst: Usage, maxCost: Amount | null, windowMs: number): Priced {
  const posted: Priced['posted'] = (region, needs, wearsAdapter) =>
    postedAmong(wearsAdapter ? wearingAdapters(model) : model, region, needs, windowMs);
  return { worst, maxCost, ceiling: model.ceiling, posted };
}

/** The same of training a base. */
export function pricedAsTraining(
  base: string,
  { catalogue, offers }: { readonly catalogue: Catalogue; readonly offers: readonly StandingOffer[] },
  worst: Usage,
  maxCost: Amount | null,
  windowMs: number,
): Priced {
  const { ceiling, ...lists } = knownTrainer(base, catalogue, offers);
  return { worst, maxCost, ceiling, posted: (region, needs) => postedAmong(lists, region, needs, windowMs) };
}

/** What the job costs by the prices of those who may do it, as it is asked for now. */
export function* pricesFor(
  { worst, ceiling, posted }: Priced,
  region: string | null,
  needs: NodeNeeds,
  wearsAdapter = false,
): Steps<JobPrices> {
  return yield* pricesOf(worst, yield* posted(region, needs, wearsAdapter), ceiling);
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
    const wearsAdapter = less.capabilities.includes('lora');
    const key = JSON.stringify([region, wearsAdapter, ...NEEDS.map((need) => less[need])]);
    const prices = known.get(key) ?? (yield* pricesFor(priced, region, less, wearsAdapter));
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

/**
 * What a job that was taken is priced by: what it was read to count as when it began. One that began when nobody wrote that down is looked
 * into; undefined where that is not read through in a moment, or not there any more.
 */
export async function pricedJob(ports: PriceJobPorts, job: JobView): Promise<Priced | undefined> {
  const { catalogue } = ports;
  const maxCost = parseMoney(job.metadata['max_cost'] ?? '');
  const windowMs = job.deadlineAtMs - job.createdAtMs;
  if (job.model === null || (job.kind !== 'batch' && job.kind !== 'fine-tune')) return undefined;
  const offers = await ports.offers.offers();
  if (job.kind === 'fine-tune') {
    const base = baseOfTrainer(job.model);
    if (base === null || job.worst === null) return undefined;
    return pricedAsTraining(base, { catalogue, offers }, job.worst, maxCost, windowMs);
  }
  const model = await inSteps(knowingModel(job.model, catalogue, offers, kindServing(job.endpoint)));
  if (model === null) return undefined;
  const worst = job.worst ?? (await worstInFile(ports.objects, job, model));
  return worst === null ? undefined : pricedAs(model, worst, maxCost, windowMs);
}

async function worstInFile(
  objects: PriceJobPorts['objects'],
  { inputFileId: fileId, endpoint }: JobView,
  model: KnownModel,
): Promise<Usage | null> {
  if (fileId === null) return null;
  const of = { fileId, endpoint: endpoint as BatchEndpoint };
  const seen = await lookInto(objects, of, () => Promise.resolve(model));
  return seen === null || seen.rows !== seen.rowsRead ? null : seen.worst;
}
