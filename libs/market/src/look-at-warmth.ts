import {
  evictPriceOf,
  Lineup,
  LoadedModels,
  ModelDemands,
  slotClassKey,
  TASK_TARGET_MS,
  warmWaitOf,
  withEvictPrices,
  withLoadGain,
  type Ask,
  type Candidate,
  type Demand,
  type LoadedSlots,
  type StandingModels,
  type WarmWait,
} from '@freehold/domain';
import { inSlices, pause, Slices } from './in-slices.ts';

/** Each is held against all others for the same model. */
const DEMANDS_AT_ONCE = 64;

export interface Warmth {
  /** With what it costs others to load what is not loaded. */
  readonly candidates: readonly Candidate[];
  readonly lineup: Lineup;
  /** With what loading their models would save. */
  readonly demands: readonly Demand[];
  readonly waitOf: (demand: Demand) => WarmWait | undefined;
}

/**
 * What {@link KeptWarmth} reckons for the placement, for who only looks and keeps nothing: how often a model is asked for follows
 * from the leases that run now. The same where all nodes have their models loaded.
 */
export async function lookAtWarmth(candidates: readonly Candidate[], demands: readonly Demand[]): Promise<Warmth> {
  const loaded = new LoadedModels();
  const busy = new Map<string, number>();
  await inSlices(candidates, (node) => {
    loaded.put(node);
    const warm = node.models.filter((model) => model.loaded);
    for (const { name } of warm) busy.set(name, (busy.get(name) ?? 0) + node.leasesActive / warm.length);
  });
  const perSecond = (model: string): number => ((busy.get(model) ?? 0) * 1_000) / TASK_TARGET_MS;
  await pause();
  const priced = await inSlices(candidates, pricedBy(loaded, demands, perSecond));
  const lineup = await lineupFor(priced, demands);
  const slots = await slotsOf(lineup, loaded, demands);
  await pause();
  const wanted = wantedOf(loaded, (_ask, key) => slots.get(key ?? '')?.slots ?? 0, demands, perSecond);
  // Where slots that it may use are at work, the wait is taken to be as young as it can be: so much is left of it at most.
  const waitedS = ({ ask, ageMs }: Demand): number =>
    slots.get(slotClassKey(ask))?.isServed === true ? 0 : ageMs / 1_000;
  const gained = await inSlices(
    demands,
    (demand) => withLoadGain(demand, wanted, loaded.slotsPerNode, waitedS(demand)),
    DEMANDS_AT_ONCE,
  );
  return {
    candidates: priced,
    lineup,
    demands: gained,
    waitOf: (demand) => {
      const of = wanted.for(demand.ask);
      return of === undefined ? undefined : warmWaitOf(demand.ask.model ?? '', of, waitedS(demand));
    },
  };
}

async function lineupFor(candidates: readonly Candidate[], demands: readonly Demand[]): Promise<Lineup> {
  const slices = new Slices();
  await slices.rest();
  const lineup = new Lineup(candidates);
  const learnt = new Set<string | null>();
  for (const { ask } of demands) {
    if (learnt.has(ask.model)) continue;
    learnt.add(ask.model);
    await slices.rest();
    for (const _ of lineup.learning(ask)) await slices.breathe();
  }
  return lineup;
}

function wantedOf(
  loaded: LoadedModels,
  slotsFor: StandingModels['slotsFor'],
  demands: readonly Demand[],
  perSecond: (model: string) => number,
): ModelDemands {
  const standing: StandingModels = {
    of: (model) => loaded.of(model),
    slotsOf: (model) => loaded.slotsOf(model),
    loadSecondsOf: (model) => loaded.loadSecondsOf(model),
    slotsFor,
  };
  return new ModelDemands(standing, demands, { perSecond, isLoading: () => false });
}

/** A node with what it costs to drive out what it has loaded: that follows from what all who ask for a model want of it. */
function pricedBy(
  loaded: LoadedModels,
  demands: readonly Demand[],
  perSecond: (model: string) => number,
): (node: Candidate) => Candidate {
  // Who may use which slots does not matter to that.
  const wanted = wantedOf(loaded, () => 0, demands, perSecond);
  const prices = new Map<string, number>();
  const priceOf = (model: string): number => {
    const price = prices.get(model) ?? evictPriceOf(model, wanted, loaded.slotsPerNode);
    prices.set(model, price);
    return price;
  };
  return (node) => withEvictPrices(node, priceOf);
}

/** Slots of those who may use the same ones, where some node would have to load the model: of the others nobody asks. */
async function slotsOf(
  lineup: Lineup,
  loaded: LoadedModels,
  demands: readonly Demand[],
): Promise<ReadonlyMap<string, LoadedSlots>> {
  const slots = new Map<string, LoadedSlots>();
  const slices = new Slices();
  for (const { ask } of demands) {
    const key = slotClassKey(ask);
    if (slots.has(key) || !mustLoad(loaded, ask)) continue;
    await slices.rest();
    for (const _ of lineup.learning(ask, 'slots')) await slices.breathe();
    slots.set(key, lineup.loadedSlots(ask));
  }
  return slots;
}

function mustLoad(loaded: LoadedModels, { model }: Ask): boolean {
  return model !== null && loaded.of(model)?.mustLoad === true;
}
