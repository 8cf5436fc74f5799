import {
  evictSecondsOn,
  loadGainOf,
  modelDemands,
  TASK_TARGET_MS,
  warmWaitOf,
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
  const busy = new Map<string, number>();
  for (const { models, leasesActive } of candidates) {
    const loaded = models.filter((model) => model.loaded);
    for (const { name } of loaded) busy.set(name, (busy.get(name) ?? 0) + leasesActive / loaded.length);
  }
  const perSecond = (model: string): number => ((busy.get(model) ?? 0) * 1_000) / TASK_TARGET_MS;
  const wanted = modelDemands(candidates, demands, perSecond, () => false);
  // What runs is being served: then its wait is as young as it can be.
  const waitedS = ({ ask, ageMs }: Demand): number => ((busy.get(ask.model ?? '') ?? 0) > 0 ? 0 : ageMs / 1_000);
  return {
    candidates: candidates.map((node) => ({
      ...node,
      models: node.models.map((model) => {
        const evictS = model.loaded ? undefined : evictSecondsOn(node, model, wanted);
        return evictS === undefined ? model : { ...model, evictS };
      }),
    })),
    demands: demands.map((demand) => {
      const gainS = loadGainOf(demand, wanted, waitedS(demand));
      return gainS === undefined ? demand : { ...demand, ask: { ...demand.ask, loadGainS: gainS } };
    }),
    waitOf: (demand) => {
      const of = wanted.get(demand.ask.model ?? '');
      return of === undefined ? undefined : warmWaitOf(demand.ask.model ?? '', of, waitedS(demand));
    },
  };
}
