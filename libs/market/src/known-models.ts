import { atOnce, eachInSteps, unitsFromJson, type NodeNeeds, type Rates, type Steps } from '@freehold/domain';
import type { Catalogue, CatalogueModel, Offer, OfferModel } from '@freehold/protocol';
import { isHere, mayReturn, type StandingOffer } from './ports/offer-book.ts';
import { trainerModel } from './training/trainer-model.ts';
import { meetsNeeds } from './unmet-need.ts';

/** A model by name: what the catalogue says of it, and who offers it now. */
export interface KnownModel {
  readonly name: string;
  /** What the catalogue says; else what was asked for, where anybody offers that; else what most operators offer. */
  readonly kind: ServedKind;
  readonly listed: CatalogueModel | null;
  /** Of its kind alone. By nodes that are here. Of a model that nobody lists, and that nobody who is here offers, by those that are away: nothing else is known of it. */
  readonly offered: readonly OfferedModel[];
  /** By nodes that are away: who may come back to it, and no price. */
  readonly away: readonly OfferedModel[];
  /** The most that a row can have: what its worst case is counted by. */
  readonly contextTokens: number;
  /** What its operators serve, by the one in the middle, the lower of two: what a requester may count on, and no stranger raises alone. */
  readonly usualContext: number;
  readonly ceiling: Rates | null;
}

/** What a node asks for a model. */
export interface PriceList {
  readonly offer: StandingOffer;
  readonly rates: Rates;
}

export interface OfferedModel extends PriceList {
  readonly model: ServedOffer;
}

export type ServedKind = 'chat' | 'embedding';

/** A model that answers requests; trainers answer none. */
type ServedOffer = OfferModel & { readonly kind: ServedKind };
const serves = (model: OfferModel): model is ServedOffer => model.kind !== 'fine-tune';

/** Everything that can be asked for: listed, offered, or both. Sorted by name. */
export function knownModels(catalogue: Catalogue, offers: readonly StandingOffer[]): KnownModel[] {
  const by = new Map<string, Set<StandingOffer>>(catalogue.models.map(({ name }) => [name, new Set()]));
  for (const offer of offers)
    for (const { name } of offer.engines.flatMap(({ models }) => models.filter(serves))) {
      const naming = by.get(name);
      if (naming === undefined) by.set(name, new Set([offer]));
      else naming.add(offer);
    }
  return [...by.keys()].sort().flatMap((name) => knownModel(name, catalogue, [...(by.get(name) ?? [])]) ?? []);
}

/** @param asked What it is asked to do, where that is known. */
export function knownModel(
  name: string,
  catalogue: Catalogue,
  offers: readonly StandingOffer[],
  asked: ServedKind | null = null,
): KnownModel | null {
  return atOnce(knowingModel(name, catalogue, offers, asked));
}

/** For who looks at thousands of offers, and does other things between them. */
export function* knowingModel(
  name: string,
  catalogue: Catalogue,
  offers: readonly StandingOffer[],
  asked: ServedKind | null,
): Steps<KnownModel | null> {
  const listed = catalogue.models.find((model) => model.name === name) ?? null;
  const named = yield* eachInSteps(offers, (offer) =>
    offer.engines.flatMap((engine) =>
      engine.models
        .filter(serves)
        .filter((model) => model.name === name && (listed === null || model.kind === listed.kind))
        .map((model) => ({ offer, model, rates: unitsFromJson(model.rates) })),
    ),
  );
  const all = named.flat();
  const kind = listed?.kind ?? (all.some(({ model }) => model.kind === asked) ? asked : kindOfMost(all));
  if (kind === null) return null;
  const standing = all.filter(({ model }) => model.kind === kind);
  const here = standing.filter(({ offer }) => isHere(offer));
  const away = here.length === standing.length ? [] : standing.filter(({ offer }) => !isHere(offer));
  const offered = here.length === 0 && listed === null ? away : here;
  return {
    name,
    kind,
    listed,
    offered,
    away,
    contextTokens: listed?.contextTokens ?? offered.reduce((most, { model }) => Math.max(most, model.contextTokens), 0),
    usualContext: listed?.contextTokens ?? usualContext(offered),
    ceiling: listed === null ? null : unitsFromJson(listed.ceilings),
  };
}

/**
 * Names are anybody's to offer, so that who offers one to do something else must not decide what all others do with it. Operators count,
 * not nodes: those that are here, and where none is, those that are away. Of kinds that as many offer, the first by its name.
 */
function kindOfMost(offered: readonly OfferedModel[]): ServedKind | null {
  const here = offered.filter(({ offer }) => isHere(offer));
  const of = here.length > 0 ? here : offered;
  const operators = (kind: ServedKind): number =>
    new Set(of.filter(({ model }) => model.kind === kind).map(({ offer }) => offer.payout)).size;
  if (of.length === 0) return null;
  return operators('embedding') > operators('chat') ? 'embedding' : 'chat';
}

/** An operator's own is the longest that it serves. */
function usualContext(offered: readonly OfferedModel[]): number {
  const longest = new Map<string, number>();
  for (const { offer, model } of offered)
    longest.set(offer.payout, Math.max(longest.get(offer.payout) ?? 0, model.contextTokens));
  const sorted = [...longest.values()].sort((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1] ?? 0;
}

/** Of those who are here, or may be again before a job of this window is over: what a refusal rests on. */
export function offersInTime({ offered, away }: KnownModel, windowMs: number): readonly StandingOffer[] {
  const returning = away.map(({ offer }) => offer).filter((offer) => mayReturn(offer, windowMs));
  return [...offered.map(({ offer }) => offer).filter(isHere), ...returning];
}

/** Price lists by whether their nodes are here. */
export interface StandingLists {
  readonly offered: readonly PriceList[];
  readonly away: readonly PriceList[];
}

/**
 * The price lists of those who may do what is asked of their nodes: what others ask is no price for it. Where none of those who are here may,
 * of those who may and may be back before it is over: a job is not refused, nor its cap set below all who could do it, because somebody
 * has not come back yet. Where none may, all of them: the job is refused, or waits, and its cap has to be of some price.
 */
export function* postedAmong(
  { offered, away }: StandingLists,
  region: string | null,
  needs: NodeNeeds,
  windowMs: number,
): Steps<readonly Rates[]> {
  const meets = meetsNeeds(region, needs);
  const meeting = yield* eachInSteps(offered, (list) => (meets(list.offer) ? [list] : []));
  const may = meeting.flat();
  yield;
  if (may.length > 0) return onePerNode(may);
  const returning = yield* eachInSteps(away, (list) =>
    mayReturn(list.offer, windowMs) && meets(list.offer) ? [list] : [],
  );
  const soon = returning.flat();
  yield;
  return onePerNode(soon.length > 0 ? soon : offered);
}

/** A node's cheapest list. Each has one voice in what is usual: an offer may name a model in many engines, at as many prices. */
function onePerNode(lists: readonly { readonly offer: Offer; readonly rates: Rates }[]): readonly Rates[] {
  const sumOf = (rates: Rates): bigint => Object.values(rates).reduce((sum, rate) => sum + rate, 0n);
  const cheapest = new Map<string, Rates>();
  for (const { offer, rates } of lists) {
    const known = cheapest.get(offer.node);
    if (known === undefined || sumOf(rates) < sumOf(known)) cheapest.set(offer.node, rates);
  }
  return [...cheapest.values()];
}

/** The offers of those who train a base. */
export function trainersOf(base: string, offers: readonly StandingOffer[]): readonly StandingOffer[] {
  const name = trainerModel(base);
  return offers.filter(({ engines }) => engines.some(({ models }) => models.some((model) => model.name === name)));
}

/**
 * What training a base costs: the price lists of those who are here and offer it, wherever they stand, and the ceiling of the catalogue;
 * without either, the lists of who is away. As of a model that is served, who is here comes first: nobody who left long ago is a price
 * in a region where nobody stands.
 */
export function knownTrainer(
  base: string,
  catalogue: Catalogue,
  offers: readonly StandingOffer[],
): StandingLists & { readonly ceiling: Rates | null } {
  const name = trainerModel(base);
  const lists = offers.flatMap((offer) =>
    offer.engines.flatMap((engine) =>
      engine.models
        .filter((model) => model.kind === 'fine-tune' && model.name === name)
        .map((model) => ({ offer, rates: unitsFromJson(model.rates) })),
    ),
  );
  const listed = catalogue.models.find((model) => model.name === base)?.trainingCeiling;
  const here = lists.filter(({ offer }) => isHere(offer));
  return {
    offered: here.length === 0 && listed === undefined ? lists : here,
    away: lists.filter(({ offer }) => !isHere(offer)),
    ceiling: listed === undefined ? null : { trainingToken: BigInt(listed) },
  };
}
