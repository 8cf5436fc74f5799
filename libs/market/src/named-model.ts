import type { KnownModel, OfferedModel } from './known-models.ts';
import type { FineTunedModel, FineTuneStore } from './ports/fine-tune-store.ts';

/** What every name of a fine-tune begins with; no other model's does. */
export const TUNED_PREFIX = 'ft:';

/** What answers under a name: a model that is served here, and the adapter that makes it the requester's own. */
export interface NamedModel {
  readonly model: KnownModel;
  /** Whoever offers it, also those who take no adapters: who gives up the fine-tune may use them. */
  readonly base: KnownModel;
  readonly tuned: Pick<FineTunedModel, 'name' | 'adapter'> | null;
}

/** A model by the name that a requester gives it. A fine-tune is its owner's alone, and runs where its base takes adapters. */
export async function namedModel(
  fineTunes: Pick<FineTuneStore, 'model'>,
  orgId: string,
  name: string,
  known: (name: string) => Promise<KnownModel | null>,
): Promise<NamedModel | null> {
  if (!name.startsWith(TUNED_PREFIX)) {
    const model = await known(name);
    return model === null ? null : { model, base: model, tuned: null };
  }
  const own = await fineTunes.model(orgId, name);
  const base = own === null ? null : await known(own.base);
  if (own === null || base === null) return null;
  return { model: wearingAdapters(base), base, tuned: { name: own.name, adapter: own.adapter } };
}

/** A base as those offer it who take adapters. */
export function wearingAdapters(base: KnownModel): KnownModel {
  const takes = ({ model }: OfferedModel): boolean => model.caps.lora;
  return { ...base, offered: base.offered.filter(takes), away: base.away.filter(takes) };
}
