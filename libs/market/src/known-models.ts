import { unitsFromJson, type NodeNeeds, type Rates } from '@freehold/domain';
import type { Catalogue, CatalogueModel, Offer, OfferModel } from '@freehold/protocol';
import { trainerModel } from './training/trainer-model.ts';
import { offersMeeting } from './unmet-need.ts';

/** A model by name: what the catalogue says of it, and who offers it now. */
export interface KnownModel {
  readonly name: string;
  readonly kind: 'chat' | 'embedding';
  readonly listed: CatalogueModel | null;
  readonly offered: readonly { readonly offer: Offer; readonly model: ServedOffer; readonly rates: Rates }[];
  readonly contextTokens: number;
  readonly ceiling: Rates | null;
}

/** A model that answers requests; trainers answer none. */
type ServedOffer = OfferModel & { readonly kind: 'chat' | 'embedding' };
const serves = (model: OfferModel): model is ServedOffer => model.kind !== 'fine-tune';

/** Everything that can be asked for: listed, offered, or both. Sorted by name. */
export function knownModels(catalogue: Catalogue, offers: readonly Offer[]): KnownModel[] {
  const names = new Set([
    ...catalogue.models.map((m) => m.name),
    ...offers.flatMap((o) => o.engines.flatMap((e) => e.models.filter(serves).map((m) => m.name))),
  ]);
  return [...names].sort().flatMap((name) => knownModel(name, catalogue, offers) ?? []);
}

export function knownModel(name: string, catalogue: Catalogue, offers: readonly Offer[]): KnownModel | null {
  const listed = catalogue.models.find((model) => model.name === name) ?? null;
  const offered = offers.flatMap((offer) =>
    offer.engines.flatMap((engine) =>
      engine.models
        .filter(serves)
        .filter((model) => model.name === name && (listed === null || model.kind === listed.kind))
        .map((model) => ({ offer, model, rates: unitsFromJson(model.rates) })),
    ),
  );
  const first = offered[0]?.model;
  const kind = listed?.kind ?? first?.kind;
  if (kind === undefined) return null;
  return {
    name,
    kind,
    listed,
    offered,
    contextTokens: listed?.contextTokens ?? Math.max(...offered.map(({ model }) => model.contextTokens)),
    ceiling: listed === null ? null : unitsFromJson(listed.ceilings),
  };
}

/** The price lists of those who may do what is asked of their nodes. */
export function postedFor({ offered }: KnownModel, region: string | null, needs: NodeNeeds): readonly Rates[] {
  const meeting = new Set(
    offersMeeting(
      offered.map(({ offer }) => offer),
      region,
      needs,
    ),
  );
  return onePerNode(offered.filter(({ offer }) => meeting.has(offer)));
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
export function trainersOf(base: string, offers: readonly Offer[]): readonly Offer[] {
  const name = trainerModel(base);
  return offers.filter(({ engines }) => engines.some(({ models }) => models.some((model) => model.name === name)));
}

/** What training a base costs: the rates of those who offer it, and the ceiling of the catalogue. */
export function knownTrainer(
  base: string,
  catalogue: Catalogue,
  offers: readonly Offer[],
): { readonly posted: readonly Rates[]; readonly ceiling: Rates | null } {
  const name = trainerModel(base);
  const lists = offers.flatMap((offer) =>
    offer.engines.flatMap((engine) =>
      engine.models
        .filter((model) => model.kind === 'fine-tune' && model.name === name)
        .map((model) => ({ offer, rates: unitsFromJson(model.rates) })),
    ),
  );
  const listed = catalogue.models.find((model) => model.name === base)?.trainingCeiling;
  return { posted: onePerNode(lists), ceiling: listed === undefined ? null : { trainingToken: BigInt(listed) } };
}
