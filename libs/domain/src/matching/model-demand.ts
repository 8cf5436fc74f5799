import type { Candidate, ServedModel } from './ask.ts';
import { LEASES_AHEAD, loadSeconds, LOAD_ASSUMED_S } from './constraints.ts';
import type { Demand } from './demand.ts';
import { NEWCOMER_ROWS, TASK_TARGET_MS } from './placer.ts';
import { coarseSeconds, evictSeconds, loadGainSeconds, type ModelDemand } from './warmth.ts';

/** The batch road's requests are tasks, cut to the same time on every node. */
const SERVICE_S = TASK_TARGET_MS / 1_000;
const MS_PER_SECOND = 1_000;

export type ModelDemands = ReadonlyMap<string, ModelDemand>;

/**
 * What each model is asked for, of which some node says that it would have to load it; empty where all nodes have theirs loaded.
 *
 * @param perSecond Tasks a second of a model, as they were leased.
 * @param isLoading Whether a node is loading the model now.
 */
export function modelDemands(
  candidates: Iterable<Candidate>,
  demands: readonly Demand[],
  perSecond: (model: string) => number,
  isLoading: (nodeId: string, model: string) => boolean,
): ModelDemands {
  const nodes = [...candidates];
  if (nodes.every(({ models }) => models.every(({ loaded }) => loaded))) return new Map();
  const found = new Map<string, Mutable<ModelDemand> & { rowsPerTask: number }>();
  for (const { nodeId, models, draining, benchedForMs } of nodes) {
    for (const model of models) {
      const known = found.get(model.name) ?? {
        ...UNKNOWN,
        perSecond: perSecond(model.name),
        rowsPerTask: NEWCOMER_ROWS,
      };
      found.set(model.name, known);
      known.isLoading ||= isLoading(nodeId, model.name);
      if (model.loaded && !draining && benchedForMs <= 0) known.slots += LEASES_AHEAD;
      known.loadS = Math.max(known.loadS, loadSeconds(model));
      known.rowsPerTask = Math.max(known.rowsPerTask, Math.round(model.rowsPerSecond * SERVICE_S));
    }
  }
  for (const demand of demands) {
    const known = demand.ask.model === null ? undefined : found.get(demand.ask.model);
    if (known !== undefined) known.waiting += tasksOf(demand, known.rowsPerTask);
  }
  return found;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Where nobody says how long a load takes, because all have it loaded, it is what is assumed of any. */
const UNKNOWN: ModelDemand = {
  perSecond: 0,
  serviceS: SERVICE_S,
  waiting: 0,
  slots: 0,
  isLoading: false,
  loadS: LOAD_ASSUMED_S,
};

function tasksOf({ isRun, queued, nextRow, rowCount }: Demand, rowsPerTask: number): number {
  return isRun === true ? 1 : queued.length + Math.ceil(Math.max(0, rowCount - nextRow) / rowsPerTask);
}

/**
 * Seconds of others' waiting that it costs to load a model on a node; undefined: nothing has to go. An engine that has to load is
 * taken to hold as many models as it holds now: what is missed least of those goes.
 */
export function evictSecondsOn(node: Candidate, model: ServedModel, demands: ModelDemands): number | undefined {
  let least: number | undefined;
  for (const { name, loaded, engineClass } of node.models) {
    const demand = demands.get(name);
    if (!loaded || engineClass !== model.engineClass || demand === undefined) continue;
    const price = coarseSeconds(evictSeconds(demand, LEASES_AHEAD));
    if (least === undefined || price < least) least = price;
  }
  return least;
}

/** What loading the demand's model once more saves; undefined where every node has it loaded that serves it. */
export function loadGainOf({ ask }: Demand, demands: ModelDemands, waitedS: number): number | undefined {
  const demand = ask.model === null ? undefined : demands.get(ask.model);
  if (demand === undefined) return undefined;
  return coarseSeconds(loadGainSeconds(demand, LEASES_AHEAD, waitedS, ask.deadlineInMs / MS_PER_SECOND));
}
