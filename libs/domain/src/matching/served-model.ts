import { microCost, UNIT_KINDS, type Rates } from '../units/units.ts';
import type { Ask, Candidate, ServedModel } from './ask.ts';
import { fitsMemory } from './model-memory.ts';
import { unitOf } from './typical-unit.ts';

/** Seconds to load a model that nobody has measured: a few GiB from a disk. */
export const LOAD_ASSUMED_S = 20;
/** Rows whose duration counts against the deadline: a newcomer's task. */
const ROWS_WAITED_FOR = 16;

/**
 * Whether a node's rates stay below the job's caps, for the kinds of unit that the job can use: a node may well ask money for
 * kinds that this job never counts. A job without any cap admits nobody.
 */
export function withinCaps(rates: Rates, caps: Rates): boolean {
  const capped = UNIT_KINDS.filter((kind) => caps[kind] !== undefined);
  return capped.length > 0 && capped.every((kind) => (rates[kind] ?? 0n) <= (caps[kind] ?? 0n));
}

/** Whether none of the kinds of unit that a job counts has a price. */
export function costsNothing(ask: Ask, rates: Rates): boolean {
  return UNIT_KINDS.every((kind) => ask.rateCaps[kind] === undefined || (rates[kind] ?? 0n) === 0n);
}

export function loadSeconds(model: ServedModel): number {
  return model.loaded ? 0 : (model.loadS ?? LOAD_ASSUMED_S);
}

/** Seconds until so many rows are done, from a cold start if it must be. A model nobody has measured counts as fast. */
export function modelSeconds(model: ServedModel, rows: number): number {
  return loadSeconds(model) + (model.rowsPerSecond > 0 ? rows / model.rowsPerSecond : 0);
}

/** What an ask requires of the model that serves it, by the names of the constraints. */
export const MODEL_RULES = {
  memory: (_ask: Ask, model: ServedModel, node: Candidate): boolean => fitsMemory(model, node),
  capability: (ask: Ask, model: ServedModel): boolean =>
    ask.capabilities.every((capability) => model.capabilities?.includes(capability)),
  price: (ask: Ask, model: ServedModel): boolean => withinCaps(model.rates, ask.rateCaps),
  deadline: (ask: Ask, model: ServedModel): boolean => modelSeconds(model, 1) * 1_000 <= ask.deadlineInMs,
  warmWait: (ask: Ask, model: ServedModel): boolean =>
    model.loaded ||
    // Another engine holds the memory: no gain makes room there.
    (model.evictS !== Number.POSITIVE_INFINITY && (ask.loadGainS === undefined || ask.loadGainS > (model.evictS ?? 0))),
  /** See the constraint `pool`. */
  sold: (ask: Ask, model: ServedModel, node: Candidate): boolean =>
    ask.pools.length > 0 || node.pools.length === 0 || !costsNothing(ask, model.rates),
} as const;
const RULES = Object.values(MODEL_RULES);

/** The terms of a score that follow from the model and its rates; see `score.ts`. */
export interface ModelTerms {
  readonly price: number;
  readonly coldStart: number;
  readonly eviction: number;
  readonly slowness: number;
  readonly unreliability: number;
}

/** @param model Undefined: the work brings its own. */
export function modelTerms(ask: Ask, rates: Rates, reputation: number, model: ServedModel | undefined): ModelTerms {
  const unit = unitOf(ask);
  const price = Number(microCost(unit, rates));
  const worth = Number(microCost(unit, ask.rateCaps));
  const leftS = Math.max(1, ask.deadlineInMs / 1_000);
  const loadS = model === undefined ? 0 : loadSeconds(model);
  const evictS = model === undefined || model.loaded ? 0 : (model.evictS ?? 0);
  const workS = model === undefined ? 0 : modelSeconds(model, ROWS_WAITED_FOR) - loadS;
  const slowness = worth * Math.min(1, workS / leftS);
  return {
    price,
    coldStart: worth * Math.min(1, loadS / leftS),
    eviction: worth * Math.min(1, evictS / leftS),
    slowness,
    unreliability: (1 - reputation) * (price + slowness),
  };
}

/**
 * The model of a node that would serve an ask. A node may serve a model of one name by several engines, or with several digests: of
 * those the one that meets what the ask requires, at the least cost by the terms that nodes are compared by.
 */
export function servedModel(ask: Ask, node: Candidate): ServedModel | undefined {
  let best: ServedModel | undefined;
  let rank: Rank | undefined;
  for (const model of node.models) {
    if (!isNamed(ask, model)) continue;
    if (best === undefined) {
      best = model;
      continue;
    }
    rank ??= rankOf(ask, node, best);
    const other = rankOf(ask, node, model);
    if (isBefore(other, rank)) [best, rank] = [model, other];
  }
  return best;
}

/**
 * The node once for each of its models that might serve the ask, with that one alone, the cheapest first: what a look at everything
 * that could be relaxed is over. The node itself where there is no choice.
 */
export function alternatives(ask: Ask, node: Candidate): readonly Candidate[] {
  const named = node.models.filter((model) => isNamed(ask, model));
  if (named.length < 2) return [node];
  return named
    .map((model) => ({ model, rank: rankOf(ask, node, model) }))
    .sort((a, b) => a.rank.cost - b.rank.cost)
    .map(({ model }) => ({ ...node, models: node.models.filter((one) => one === model || !isNamed(ask, one)) }));
}

interface Rank {
  /** Rules of the ask that it breaks. */
  readonly broken: number;
  readonly cost: number;
}

function rankOf(ask: Ask, node: Candidate, model: ServedModel): Rank {
  const broken = RULES.filter((holds) => !holds(ask, model, node)).length;
  const terms = modelTerms(ask, model.rates, node.reputation, model);
  return {
    broken,
    cost: terms.price + terms.coldStart + terms.eviction + terms.slowness + terms.unreliability,
  };
}

function isBefore(a: Rank, b: Rank): boolean {
  return a.broken !== b.broken ? a.broken < b.broken : a.cost < b.cost;
}

/** A model that makes vectors answers no chats, whatever it is called. */
function isNamed(ask: Ask, { name, kind }: ServedModel): boolean {
  return name === ask.model && (ask.modelKind === undefined || kind === undefined || kind === ask.modelKind);
}
