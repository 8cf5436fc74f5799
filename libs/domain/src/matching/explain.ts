import { microCost, unitsToJson } from '../units/units.ts';
import type { Ask, Candidate } from './ask.ts';
import { CONSTRAINTS, obstacle, ratesFor, type Constraint } from './constraints.ts';
import { memberAsk } from './gangs.ts';
import { askingLess, changesOf, minimalRelaxations } from './relax.ts';
import { alternatives } from './served-model.ts';
import { unitOf } from './typical-unit.ts';
import type { WarmWait } from './warmth.ts';

/** Rates as they stand in JSON. */
export type RatesJson = Readonly<Record<string, string>>;

/** The word for how many nodes a job begins on at once, among the constraints of a relaxation. */
const NODES = 'nodes';

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
  /** Of a job that begins on several nodes at once: on how many. It waits while fewer fit. */
  readonly members?: number;
  /** Where free nodes are left alone because a slot where the model is loaded comes sooner: until when. */
  readonly warmWait?: WarmWait;
  readonly summary: string;
}

interface Circumstances {
  /** What its rows wait for while nodes that would have to load the model are left alone. */
  readonly warmWait?: WarmWait | undefined;
  /** It begins on so many nodes at once; absent: on any. */
  readonly members?: number | undefined;
}

export function explainPlacement(
  of: Ask,
  candidates: readonly Candidate[],
  { warmWait, members = 1 }: Circumstances = {},
): Explanation {
  const ask = members === 1 ? of : memberAsk(of);
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
    const requirement = constraint.says(ask, nodes);
    const end = endsInMs === null ? {} : { endsInS: Math.ceil(endsInMs / 1_000) };
    return [{ constraint: constraint.name, requirement, nodes: nodes.length, ...end }];
  });
  const relaxations = relaxationsOf(ask, candidates, members);
  const isWarmWait = warmWait !== undefined && fitting === 0 && counts.has('warm-wait');
  return {
    nodes: candidates.length,
    fitting,
    eliminated,
    cheapestOffer: cheapestOffer(ask, candidates),
    priceThatWouldDo: priceThatWouldDo(ask, candidates),
    relaxations,
    ...(isWarmWait ? { warmWait } : {}),
    ...(members === 1 ? {} : { members }),
    summary: summarise(candidates.length, fitting, members, eliminated, relaxations[0]?.changes ?? []),
  };
}

function relaxationsOf(ask: Ask, candidates: readonly Candidate[], members: number): Explanation['relaxations'] {
  return minimalRelaxations(ask, candidates, members).map((one) => {
    const { constraints, nodes } = one;
    const less = byPrice(ask, nodes).slice(0, one.members).reduce(askingLess, ask);
    const isFewer = one.members < members;
    return {
      constraints: [...(isFewer ? [NODES] : []), ...constraints.map(({ name }) => name)],
      changes: [...(isFewer ? [fewerNodes(one.members)] : []), ...changesOf(ask, less, constraints)],
      nodes: nodes.length,
      inYourHands: constraints.every(({ lifted }) => lifted === 'by-asking-less'),
    };
  });
}

function fewerNodes(members: number): string {
  return members === 1 ? 'ask for one node at a time' : `ask for ${members} nodes at once`;
}

interface Eliminated {
  readonly nodes: Candidate[];
  /** Of the first; null where no end is known. */
  endsInMs: number | null;
}

function note(counts: Map<string, Eliminated>, kept: Constraint, ask: Ask, node: Candidate): void {
  const endsInMs = kept.endsInMs?.(ask, node) ?? null;
  const known = counts.get(kept.name);
  if (known === undefined) counts.set(kept.name, { nodes: [node], endsInMs });
  else {
    known.nodes.push(node);
    if (endsInMs !== null) known.endsInMs = Math.min(known.endsInMs ?? endsInMs, endsInMs);
  }
}

/** Whether a node could run it with nothing else to do. */
export function couldRun(ask: Ask, node: Candidate): boolean {
  return obstacle(ask, idleNode(node)) === null;
}

/** Why no node could ever run it, or not as many as it begins on, even with nothing else to do and nobody away; null when they could. */
export function explainNever(ask: Ask, candidates: readonly Candidate[], members = 1): Explanation | null {
  const able = candidates.filter((node) => couldRun(ask, node)).length;
  return able >= members ? null : explainPlacement(ask, candidates.map(idleNode), { members });
}

/** A node as it is when all that only time lifts is over. */
function idleNode(node: Candidate): Candidate {
  return {
    ...node,
    gpus: node.gpus.map((gpu) => ({ ...gpu, freeMilli: gpu.milli })),
    draining: false,
    rest: null,
    reserved: null,
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
  members: number,
  eliminated: Explanation['eliminated'],
  changes: readonly string[],
): string {
  if (nodes === 0) return 'No node is connected.';
  if (fitting >= members) return `${fitting} of ${nodes} nodes fit.`;
  const left = eliminated
    .map(({ nodes: some, requirement, endsInS }) => {
      const end = endsInS === undefined ? '' : ` (the first in ${endsInS} s)`;
      return `${some} left out because a node must be one that ${requirement}${end}`;
    })
    .join('; ');
  const help = changes.length === 0 ? '' : ` What would place it: ${changes.join(', and ')}.`;
  if (members === 1) return `None of ${nodes} nodes fits: ${left}.${help}`;
  const others = left === '' ? '' : `: ${left}`;
  return `It waits for ${members} nodes at once, and ${fitting} of ${nodes} fit${others}.${help}`;
}
