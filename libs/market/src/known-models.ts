import { unitsFromJson, type Rates } from '@freehold/domain';
import type { Catalogue, CatalogueModel, Offer, OfferModel } from '@freehold/protocol';

/** A model by name: what the catalogue says of it, and who offers it now. */
export interface KnownModel {
  readonly name: string;
  readonly kind: 'chat' | 'embedding';
  readonly listed: CatalogueModel | null;
  readonly offered: readonly { readonly offer: Offer; readonly model: OfferModel; readonly rates: Rates }[];
  readonly contextTokens: number;
  readonly ceiling: Rates | null;
}

/** Everything that can be asked for: listed, offered, or both. Sorted by name. */
export function knownModels(catalogue: Catalogue, offers: readonly Offer[]): KnownModel[] {
  const names = new Set([
    ...catalogue.models.map((m) => m.name),
    ...offers.flatMap((o) => o.engines.flatMap((e) => e.models.map((m) => m.name))),
  ]);
  return [...names].sort().flatMap((name) => knownModel(name, catalogue, offers) ?? []);
}

export function knownModel(name: string, catalogue: Catalogue, offers: readonly Offer[]): KnownModel | null {
  const listed = catalogue.models.find((model) => model.name === name) ?? null;
  const offered = offers.flatMap((offer) =>
    offer.engines.flatMap((engine) =>
      engine.models
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
