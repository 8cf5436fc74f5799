import { microCost, unitsToJson } from '../units/units.ts';
import type { Ask, Candidate } from './ask.ts';
import { CONSTRAINTS, obstacle, ratesFor, type Constraint } from './constraints.ts';
import { askingLess, changesOf, minimalRelaxations } from './relax.ts';
import { alternatives } from './served-model.ts';
import { unitOf } from './typical-unit.ts';
import type { WarmWait } from './warmth.ts';

/** Rates as they stand in JSON. */
export type RatesJson = Readonly<Record<string, string>>;

/** Why a task is (not) placed: how many nodes each constraint leaves out, what would place it, and at which price. */
export interface Explanation {
  readonly nodes: number;
  readonly fitting: number;
  readonly eliminated: readonly {
    readonly constraint: string;
    readonly requirement: string;
    readonly nodes: number;
    /** Seconds until the first of them is one, where time alone makes it one and says when. */
    readonly endsInS?: number;
  }[];
  /** Rates of the cheapest node that meets everything but perhaps the price cap and what time lifts. */
  readonly cheapestOffer: { readonly rates: RatesJson; readonly withinCap: boolean } | null;
  /** Rates that would admit the cheapest node kept away by price alone. */
  readonly priceThatWouldDo: RatesJson | null;
  /** The smallest changes that would place it, most useful first. */
  readonly relaxations: readonly {
    readonly constraints: readonly string[];
    readonly changes: readonly string[];
    readonly nodes: number;
    /** False where only time helps. */
    readonly inYourHands: boolean;
  }[];
  /** Where free nodes are left alone because a slot where the model is loaded comes sooner: until when. */
  readonly warmWait?: WarmWait;
  readonly summary: string;
}

/** @param warmWait What its rows wait for while nodes that would have to load the model are left alone. */
export function explainPlacement(ask: Ask, candidates: readonly Candidate[], warmWait?: WarmWait): Explanation {
  const counts = new Map<string, Eliminated>();
  let fitting = 0;
  for (const node of candidates) {
    const kept = obstacle(ask, node);
    if (kept === null) fitting += 1;
    else note(counts, kept, ask, node);
  }
  const eliminated = CONSTRAINTS.flatMap((constraint) => {
    const counted = counts.get(constraint.name);
    if (counted === undefined) return [];
    const { nodes, endsInMs } = counted;
    const end = endsInMs === null ? {} : { endsInS: Math.ceil(endsInMs / 1_000) };
    return [{ constraint: constraint.name, requirement: constraint.says(ask), nodes, ...end }];
  });
  const relaxations = minimalRelaxations(ask, candidates).map(({ constraints, nodes }) => {
    const [cheapest] = byPrice(ask, nodes);
    return {
      constraints: constraints.map(({ name }) => name),
      changes: cheapest === undefined ? [] : changesOf(ask, askingLess(ask, cheapest), constraints),
      nodes: nodes.length,
      inYourHands: constraints.every(({ lifted }) => lifted === 'by-asking-less'),
    };
  });
  const isWarmWait = warmWait !== undefined && fitting === 0 && counts.has('warm-wait');
  return {
    nodes: candidates.length,
    fitting,
    eliminated,
    cheapestOffer: cheapestOffer(ask, candidates),
    priceThatWouldDo: priceThatWouldDo(ask, candidates),
    relaxations,
    ...(isWarmWait ? { warmWait } : {}),
    summary: summarise(candidates.length, fitting, eliminated, relaxations[0]?.changes ?? []),
  };
}

interface Eliminated {
  nodes: number;
  /** Of the first; null where no end is known. */
  endsInMs: number | null;
}

function note(counts: Map<string, Eliminated>, kept: Constraint, ask: Ask, node: Candidate): void {
  const endsInMs = kept.endsInMs?.(ask, node) ?? null;
  const known = counts.get(kept.name);
  if (known === undefined) counts.set(kept.name, { nodes: 1, endsInMs });
  else {
    known.nodes += 1;
    if (endsInMs !== null) known.endsInMs = Math.min(known.endsInMs ?? endsInMs, endsInMs);
  }
}

/** Whether a node could run it with nothing else to do. */
export function couldRun(ask: Ask, node: Candidate): boolean {
  return obstacle(ask, idleNode(node)) === null;
}

/** Why no node could ever run it, even with nothing else to do and nobody away; null when one could. */
export function explainNever(ask: Ask, candidates: readonly Candidate[]): Explanation | null {
  return candidates.some((node) => couldRun(ask, node)) ? null : explainPlacement(ask, candidates.map(idleNode));
}

/** A node as it is when all that only time lifts is over. */
function idleNode(node: Candidate): Candidate {
  return {
    ...node,
    gpus: node.gpus.map((gpu) => ({ ...gpu, freeMilli: gpu.milli })),
    draining: false,
    rest: null,
    isSchedulerFull: false,
    benchedForMs: 0,
    leasesActive: 0,
    rowsUnaccepted: 0,
  };
}

function cheapestOffer(ask: Ask, candidates: readonly Candidate[]): Explanation['cheapestOffer'] {
  const meets = CONSTRAINTS.filter(({ name, lifted }) => name !== 'price' && lifted !== 'by-waiting');
  const [cheapest] = byPrice(
    ask,
    candidates
      .flatMap((node) => alternatives(ask, node))
      .filter((node) => meets.every(({ holds }) => holds(ask, node))),
  );
  if (cheapest === undefined) return null;
  const price = CONSTRAINTS.find(({ name }) => name === 'price');
  return { rates: unitsToJson(ratesFor(ask, cheapest)), withinCap: price?.holds(ask, cheapest) ?? true };
}

function priceThatWouldDo(ask: Ask, candidates: readonly Candidate[]): RatesJson | null {
  const [cheapest] = byPrice(
    ask,
    candidates
      .filter((node) => obstacle(ask, node) !== null)
      .flatMap((node) => alternatives(ask, node))
      .filter((node) => CONSTRAINTS.every(({ name, holds }) => holds(ask, node) === (name !== 'price'))),
  );
  return cheapest === undefined ? null : unitsToJson(ratesFor(ask, cheapest));
}

/** Cheapest first, over a typical unit of the work. */
function byPrice(ask: Ask, nodes: readonly Candidate[]): readonly Candidate[] {
  const unit = unitOf(ask);
  return nodes
    .map((node) => ({ node, price: microCost(unit, ratesFor(ask, node)) }))
    .sort((a, b) => (a.price < b.price ? -1 : a.price > b.price ? 1 : a.node.nodeId < b.node.nodeId ? -1 : 1))
    .map(({ node }) => node);
}

function summarise(
  nodes: number,
  fitting: number,
  eliminated: Explanation['eliminated'],
  changes: readonly string[],
): string {
  if (nodes === 0) return 'No node is connected.';
  if (fitting > 0) return `${fitting} of ${nodes} nodes fit.`;
  const left = eliminated
    .map(({ nodes: some, requirement, endsInS }) => {
      const end = endsInS === undefined ? '' : ` (the first in ${endsInS} s)`;
      return `${some} left out because a node must be one that ${requirement}${end}`;
    })
    .join('; ');
  const help = changes.length === 0 ? '' : ` What would place it: ${changes.join(', and ')}.`;
  return `None of ${nodes} nodes fits: ${left}.${help}`;
}
