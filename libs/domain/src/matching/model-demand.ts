import type { Ask, Candidate, ServedModel } from './ask.ts';
import type { Demand } from './demand.ts';
import { slotClassKey, type LoadedModels } from './loaded-models.ts';
import { freeMemoryMib } from './model-memory.ts';
import { TASK_TARGET_MS, taskRowsMax } from './task-size.ts';
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
  /** Whether a node is loading its model, which takes so long, for wishes of this class now. */
  readonly isLoading: (slotClass: string, loadS: number) => boolean;
}

/** What of the models that nodes have loaded a look at the demand rests on. */
export type StandingModels = Pick<LoadedModels, 'of' | 'slotsOf' | 'slotsFor' | 'loadSecondsOf'>;

/** What is asked for in one decision, by model and by who may use which slots. */
export class ModelDemands {
  readonly #loaded: StandingModels;
  readonly #learnt: LearntDemand;
  /** By model, and there by class of wishes. */
  readonly #lines = new Map<string, Map<string, Line>>();
  readonly #keys = new Map<string, string>();

  constructor(loaded: StandingModels, demands: readonly Demand[], learnt: LearntDemand) {
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
    const offered = ask.model === null ? undefined : this.#loaded.of(ask.model);
    if (ask.model === null || offered?.mustLoad !== true) return undefined;
    const key = this.#keys.get(ask.jobId) ?? slotClassKey(ask);
    const lines = this.#lines.get(ask.model);
    const own = lines?.get(key) ?? { ask, slots: this.#loaded.slotsFor(ask, key), waiting: 0 };
    let { waiting } = own;
    // Others' requests take these slots as well, as many of them as these are of the slots that those may use.
    for (const [name, other] of lines ?? [])
      if (name !== key && other.slots > 0 && mayMeet(ask, other.ask))
        waiting += other.waiting * Math.min(1, own.slots / other.slots);
    return this.#demand(
      ask.model,
      waiting,
      own.slots,
      this.#learnt.isLoading(key, this.#loaded.loadSecondsOf(ask.model)),
    );
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
    const rowsPerTask = Math.min(offered.rowsPerTask, taskRowsMax(ask.verify));
    line.waiting += isRun === true ? 1 : queued.length + Math.ceil(Math.max(0, rowCount - nextRow) / rowsPerTask);
  }

  #demand(model: string, waiting: number, slots: number, isLoading: boolean): ModelDemand | undefined {
    const offered = this.#loaded.of(model);
    if (offered === undefined) return undefined;
    const loadS = this.#loaded.loadSecondsOf(model);
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

/** What has to go for a model that is loaded, and what that costs others. */
export interface Displaced {
  readonly names: ReadonlySet<string>;
  readonly evictS: number;
}

/** What a node has loaded, as one who would load something else there sees it. */
interface Held {
  /** Memory that is free beside it; undefined: nobody knows. */
  readonly freeMib: number | undefined;
  readonly roomMib: number | undefined;
  /** By engine, what is missed least first. */
  readonly byEngine: ReadonlyMap<string, readonly Holding[]>;
}
type Holding = Pick<ServedModel, 'name' | 'memoryMib'> & { readonly evictS: number };

function heldBy(node: Candidate, priceOf: (model: string) => number): Held {
  const byEngine = new Map<string, Holding[]>();
  for (const { name, loaded, engineClass, memoryMib } of node.models) {
    if (!loaded) continue;
    const holding = { name, evictS: priceOf(name), ...(memoryMib === undefined ? {} : { memoryMib }) };
    byEngine.set(engineClass, [...(byEngine.get(engineClass) ?? []), holding]);
  }
  for (const held of byEngine.values()) held.sort((a, b) => a.evictS - b.evictS);
  return { freeMib: freeMemoryMib(node), roomMib: node.modelRoomMib, byEngine };
}

/**
 * What has to go for a model that an engine loads: of what it holds what is missed least, until there is room; nothing where there is.
 * Where nobody knows how much memory models take, an engine is taken to hold as many as it holds now. Undefined: nothing has to go.
 *
 * Without end where all of it would not be enough, because other engines of the node hold the rest: they give nothing back for this one.
 */
export function displacedBy(
  node: Candidate,
  model: ServedModel,
  priceOf: (model: string) => number,
): Displaced | undefined {
  return displaced(heldBy(node, priceOf), model);
}

function displaced({ freeMib, roomMib = 0, byEngine }: Held, model: ServedModel): Displaced | undefined {
  const { engineClass, memoryMib, isClaimed } = model;
  const held = byEngine.get(engineClass) ?? [];
  if (freeMib === undefined || memoryMib === undefined) return displacedOf(held.slice(0, 1));
  let missingMib = memoryMib - freeMib;
  const gone: Holding[] = [];
  for (const one of held) {
    if (missingMib <= 0) break;
    gone.push(one);
    missingMib -= one.memoryMib ?? 0;
  }
  if (missingMib > 0 && isClaimed === true && memoryMib <= roomMib)
    return { names: new Set(gone.map(({ name }) => name)), evictS: Number.POSITIVE_INFINITY };
  // What went first may not have been needed after what went last: what is missed most stays before the others.
  const needed = gone.reverse().filter(({ memoryMib: given = 0 }) => {
    const stays = missingMib + given <= 0;
    if (stays) missingMib += given;
    return !stays;
  });
  return displacedOf(needed);
}

function displacedOf(gone: readonly Holding[]): Displaced | undefined {
  if (gone.length === 0) return undefined;
  const names = new Set(gone.map(({ name }) => name));
  return { names, evictS: gone.reduce((sum, { evictS }) => sum + evictS, 0) };
}

/** The node with what it costs others to load what is not loaded. */
export function withEvictPrices(node: Candidate, priceOf: (model: string) => number): Candidate {
  if (node.models.every(({ loaded }) => loaded)) return node;
  const held = heldBy(node, priceOf);
  const models = node.models.map((model): ServedModel => {
    const evictS = model.loaded ? undefined : displaced(held, model)?.evictS;
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
