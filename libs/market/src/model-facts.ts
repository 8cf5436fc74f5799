import { fitsMemory, loadTimeSeconds, modelMemoryMib, modelRoomMib, type ModelMemory } from '@freehold/domain';
import type { Catalogue, Offer, OfferModel } from '@freehold/protocol';

/** What the catalogue says that a model takes of memory; undefined where it does not say it of this one. */
export type MemoryListed = (model: Pick<OfferModel, 'name' | 'quantisation'>) => ModelMemory | undefined;

/** What this market knows by itself of models and of nodes: it counts before what offers say. */
export interface MarketFacts {
  /** Rows a second, as this process measured them. */
  readonly measured?: (nodeId: string, digest: string) => number | undefined;
  readonly listed?: MemoryListed;
  /** Seconds that loading a model took, likewise. */
  readonly loadS?: (nodeId: string, digest: string) => number | undefined;
}

/** Of a model that is listed: another quantisation of it has other weights. */
export function memoryListed({ models }: Catalogue): MemoryListed {
  const listed = new Map(models.map((model) => [model.name, model]));
  return ({ name, quantisation }) => {
    const known = listed.get(name);
    return known !== undefined && known.quantisation === quantisation ? known.memory : undefined;
  };
}

type OfferedModel = Pick<OfferModel, 'name' | 'quantisation' | 'contextTokens' | 'slots' | 'memory'>;

/** Memory that a model takes as it is offered: by the catalogue's figures, or else by the offer's. Undefined: nobody knows. */
export function memoryNeedMib(model: OfferedModel, listed: MemoryListed | undefined): number | undefined {
  const { contextTokens, slots, memory } = model;
  const figures = listed?.(model) ?? memory;
  // How its cache is laid out is the engine's to say, whoever knows the weights.
  const cacheTokens = memory?.cacheTokens;
  return figures === undefined ? undefined : modelMemoryMib({ ...figures, contextTokens, slots, cacheTokens });
}

/** Seconds that loading a model takes: as measured, else by its offer, else by its weights. Undefined: nobody knows. */
export function loadSecondsOf(
  model: Pick<OfferModel, 'name' | 'quantisation' | 'memory' | 'loadS'>,
  listed: MemoryListed | undefined,
  measuredS?: number,
): number | undefined {
  const weightsMib = (listed?.(model) ?? model.memory)?.weightsMib;
  return loadTimeSeconds({ measuredS, offeredS: model.loadS, weightsMib });
}

/** As the constraint `model-memory`, for who has no snapshot. @param hasRun The market has counted rows of this model there. */
export function fitsNode(
  model: OfferedModel & Pick<OfferModel, 'loaded'>,
  offer: Pick<Offer, 'gpus' | 'memoryMib'>,
  listed: MemoryListed | undefined,
  hasRun: boolean,
): boolean {
  const memoryMib = memoryNeedMib(model, listed);
  if (memoryMib === undefined) return true;
  const { loaded } = model;
  return fitsMemory({ loaded, isClaimed: !hasRun, memoryMib }, { modelRoomMib: modelRoomMib(offer) });
}
