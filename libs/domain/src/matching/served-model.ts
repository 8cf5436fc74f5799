import { microCost, UNIT_KINDS, type Rates, type UnitKind, type Usage } from '../units/units.ts';
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
  let isCapped = false;
  for (const kind of UNIT_KINDS) {
    const cap = caps[kind];
    if (cap === undefined) continue;
    if ((rates[kind] ?? 0n) > cap) return false;
    isCapped = true;
  }
  return isCapped;
}

/** The kinds of unit that a job counts: those that it has a cap for. */
export function countedKinds(caps: Rates): readonly UnitKind[] {
  return UNIT_KINDS.filter((kind) => caps[kind] !== undefined);
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

/** What those terms rest on at a node, whoever asks. */
export interface ModelFigures {
  /** Of a typical unit of the work. */
  readonly price: number;
  readonly loadS: number;
  readonly evictS: number;
  readonly workS: number;
  readonly reputation: number;
}

/** And of an ask, whichever the node. */
export interface Urgency {
  readonly worth: number;
  readonly leftS: number;
}

/** @param model Undefined: the work brings its own. */
export function modelTerms(ask: Ask, rates: Rates, reputation: number, model: ServedModel | undefined): ModelTerms {
  const unit = unitOf(ask);
  return termsOf(figuresOf(unit, rates, reputation, model), urgencyOf(unit, ask));
}

export function figuresOf(unit: Usage, rates: Rates, reputation: number, model: ServedModel | undefined): ModelFigures {
  const loadS = model === undefined ? 0 : loadSeconds(model);
  return {
    price: Number(microCost(unit, rates)),
    loadS,
    evictS: model === undefined || model.loaded ? 0 : (model.evictS ?? 0),
    workS: model === undefined ? 0 : modelSeconds(model, ROWS_WAITED_FOR) - loadS,
    reputation,
  };
}

export function urgencyOf(unit: Usage, ask: Pick<Ask, 'rateCaps' | 'deadlineInMs'>): Urgency {
  return { worth: Number(microCost(unit, ask.rateCaps)), leftS: Math.max(1, ask.deadlineInMs / 1_000) };
}

export function termsOf(of: ModelFigures, { worth, leftS }: Urgency): ModelTerms {
  const slowness = worth * Math.min(1, of.workS / leftS);
  return {
    price: of.price,
    coldStart: worth * Math.min(1, of.loadS / leftS),
    eviction: worth * Math.min(1, of.evictS / leftS),
    slowness,
    unreliability: (1 - of.reputation) * (of.price + slowness),
  };
}

export function sumOf(terms: ModelTerms): number {
  return terms.price + terms.coldStart + terms.eviction + terms.slowness + terms.unreliability;
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
  return { broken, cost: sumOf(modelTerms(ask, model.rates, node.reputation, model)) };
}

function isBefore(a: Rank, b: Rank): boolean {
  return a.broken !== b.broken ? a.broken < b.broken : a.cost < b.cost;
}

/** A model that makes vectors answers no chats, whatever it is called. */
function isNamed(ask: Ask, { name, kind }: ServedModel): boolean {
  return name === ask.model && (ask.modelKind === undefined || kind === undefined || kind === ask.modelKind);
}
