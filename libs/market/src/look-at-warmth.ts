import {
  evictPriceOf,
  LoadedModels,
  ModelDemands,
  TASK_TARGET_MS,
  warmWaitOf,
  withEvictPrices,
  withLoadGain,
  type Candidate,
  type Demand,
  type WarmWait,
} from '@freehold/domain';

export interface Warmth {
  /** With what it costs others to load what is not loaded. */
  readonly candidates: readonly Candidate[];
  /** With what loading their models would save. */
  readonly demands: readonly Demand[];
  readonly waitOf: (demand: Demand) => WarmWait | undefined;
}

/**
 * What {@link KeptWarmth} reckons for the placement, for who only looks and keeps nothing: how often a model is asked for follows
 * from the leases that run now. The same where all nodes have their models loaded.
 */
export function lookAtWarmth(candidates: readonly Candidate[], demands: readonly Demand[]): Warmth {
  const loaded = new LoadedModels();
  const busy = new Map<string, number>();
  for (const node of candidates) {
    loaded.put(node);
    const warm = node.models.filter((model) => model.loaded);
    for (const { name } of warm) busy.set(name, (busy.get(name) ?? 0) + node.leasesActive / warm.length);
  }
  const wanted = new ModelDemands(loaded, demands, {
    perSecond: (model) => ((busy.get(model) ?? 0) * 1_000) / TASK_TARGET_MS,
    isLoading: () => false,
  });
  const prices = new Map<string, number>();
  const priceOf = (model: string): number => {
    const price = prices.get(model) ?? evictPriceOf(model, wanted, loaded.slotsPerNode);
    prices.set(model, price);
    return price;
  };
  // Where slots that it may use are at work, the wait is taken to be as young as it can be: so much is left of it at most.
  const waitedS = ({ ask, ageMs }: Demand): number => (loaded.isServed(ask) ? 0 : ageMs / 1_000);
  return {
    candidates: candidates.map((node) => withEvictPrices(node, priceOf)),
    demands: demands.map((demand) => withLoadGain(demand, wanted, loaded.slotsPerNode, waitedS(demand))),
    waitOf: (demand) => {
      const of = wanted.for(demand.ask);
      return of === undefined ? undefined : warmWaitOf(demand.ask.model ?? '', of, waitedS(demand));
    },
  };
}
