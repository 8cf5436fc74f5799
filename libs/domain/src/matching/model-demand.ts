import type { Ask, Candidate, ServedModel } from './ask.ts';
import type { Demand } from './demand.ts';
import { slotClassKey, type LoadedModels } from './loaded-models.ts';
import { LOAD_ASSUMED_S } from './served-model.ts';
import { TASK_TARGET_MS } from './task-size.ts';
import { coarseSeconds, evictSeconds, loadGainSeconds, type ModelDemand } from './warmth.ts';

/** The batch road's requests are tasks, cut to the same time on every node. */
const SERVICE_S = TASK_TARGET_MS / 1_000;
const MS_PER_SECOND = 1_000;

/** Wishes that may use the same slots, and how much waits for them. */
interface Line {
  readonly ask: Ask;
  readonly slots: number;
  waiting: number;
}

export interface LearntDemand {
  /** Tasks a second of a model, as they were leased. */
  readonly perSecond: (model: string) => number;
  /** Whether a node is loading its model for wishes of this class now. */
  readonly isLoading: (slotClass: string) => boolean;
}

/** What is asked for in one decision, by model and by who may use which slots. */
export class ModelDemands {
  readonly #loaded: LoadedModels;
  readonly #learnt: LearntDemand;
  /** By model, and there by class of wishes. */
  readonly #lines = new Map<string, Map<string, Line>>();
  readonly #keys = new Map<string, string>();

  constructor(loaded: LoadedModels, demands: readonly Demand[], learnt: LearntDemand) {
    this.#loaded = loaded;
    this.#learnt = learnt;
    for (const demand of demands) this.#enqueue(demand);
  }

  /** The model with all its requests and slots, whoever may use which: undefined where nobody offers it. */
  of(model: string): ModelDemand | undefined {
    const waiting = [...(this.#lines.get(model)?.values() ?? [])].reduce((sum, line) => sum + line.waiting, 0);
    return this.#demand(model, waiting, this.#loaded.slotsOf(model), false);
  }

  /** The model as those see it who may use the slots that this wish may use: undefined where no node would have to load it. */
  for(ask: Ask): ModelDemand | undefined {
    if (ask.model === null || this.#loaded.of(ask.model)?.loadS === undefined) return undefined;
    const key = this.#keys.get(ask.jobId) ?? slotClassKey(ask);
    const lines = this.#lines.get(ask.model);
    const own = lines?.get(key) ?? { ask, slots: this.#loaded.slotsFor(ask, key), waiting: 0 };
    let { waiting } = own;
    // Others' requests take these slots as well, as many of them as these are of the slots that those may use.
    for (const [name, other] of lines ?? [])
      if (name !== key && other.slots > 0 && mayMeet(ask, other.ask))
        waiting += other.waiting * Math.min(1, own.slots / other.slots);
    return this.#demand(ask.model, waiting, own.slots, this.#learnt.isLoading(key));
  }

  /** Of a demand of this decision. */
  classOf(ask: Ask): string {
    return this.#keys.get(ask.jobId) ?? slotClassKey(ask);
  }

  #enqueue({ ask, isRun, queued, nextRow, rowCount }: Demand): void {
    const offered = ask.model === null ? undefined : this.#loaded.of(ask.model);
    if (ask.model === null || offered === undefined) return;
    const key = slotClassKey(ask);
    this.#keys.set(ask.jobId, key);
    const lines = this.#lines.get(ask.model) ?? new Map<string, Line>();
    this.#lines.set(ask.model, lines);
    const line = lines.get(key) ?? { ask, slots: this.#loaded.slotsFor(ask, key), waiting: 0 };
    lines.set(key, line);
    line.waiting +=
      isRun === true ? 1 : queued.length + Math.ceil(Math.max(0, rowCount - nextRow) / offered.rowsPerTask);
  }

  #demand(model: string, waiting: number, slots: number, isLoading: boolean): ModelDemand | undefined {
    const offered = this.#loaded.of(model);
    if (offered === undefined) return undefined;
    const loadS = offered.loadS ?? LOAD_ASSUMED_S;
    return { perSecond: this.#learnt.perSecond(model), serviceS: SERVICE_S, waiting, slots, isLoading, loadS };
  }
}

/** Whether two wishes for one model can want the same slot; caps and the like part few. */
function mayMeet(a: Ask, b: Ask): boolean {
  return meets(a.regions, b.regions) && meets(a.pools, b.pools);
}

function meets(a: readonly string[], b: readonly string[]): boolean {
  return a.length === 0 || b.length === 0 || a.some((one) => b.includes(one));
}

/** Seconds of others' waiting that it costs to drive a model out of one node. */
export function evictPriceOf(model: string, demands: ModelDemands, slotsHere: number): number {
  const demand = demands.of(model);
  return demand === undefined ? 0 : coarseSeconds(evictSeconds(demand, slotsHere));
}

/**
 * What has to go for a model that an engine loads: an engine is taken to hold as many models as it holds now, and what is missed
 * least of those goes. Undefined: nothing has to.
 */
export function leastMissed(
  node: Candidate,
  engineClass: string,
  priceOf: (model: string) => number,
): { readonly name: string; readonly evictS: number } | undefined {
  let least: { readonly name: string; readonly evictS: number } | undefined;
  for (const { name, loaded, engineClass: own } of node.models) {
    if (!loaded || own !== engineClass) continue;
    const evictS = priceOf(name);
    if (least === undefined || evictS < least.evictS) least = { name, evictS };
  }
  return least;
}

/** The node with what it costs others to load what is not loaded. */
export function withEvictPrices(node: Candidate, priceOf: (model: string) => number): Candidate {
  if (node.models.every(({ loaded }) => loaded)) return node;
  const prices = new Map<string, number | undefined>();
  for (const { engineClass } of node.models)
    if (!prices.has(engineClass)) prices.set(engineClass, leastMissed(node, engineClass, priceOf)?.evictS);
  const models = node.models.map((model): ServedModel => {
    const evictS = model.loaded ? undefined : prices.get(model.engineClass);
    return evictS === undefined ? model : { ...model, evictS };
  });
  return { ...node, models };
}

/** The demand with what loading its model once more saves; the same one where no node would have to. */
export function withLoadGain(demand: Demand, demands: ModelDemands, slotsThere: number, waitedS: number): Demand {
  const { ask } = demand;
  const model = demands.for(ask);
  if (model === undefined) return demand;
  const loadGainS = coarseSeconds(loadGainSeconds(model, slotsThere, waitedS, ask.deadlineInMs / MS_PER_SECOND));
  return { ...demand, ask: { ...ask, loadGainS } };
}
