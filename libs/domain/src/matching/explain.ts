import { atOnce, eachInSteps, type Steps } from '../steps.ts';
import { UNIT_KINDS, unitsToJson, type Rates, type UnitKind } from '../units/units.ts';
import { inClass, type Ask, type Candidate } from './ask.ts';
import { CONSTRAINTS, obstacle, ratesFor, type Constraint } from './constraints.ts';
import { memberAsk } from './gangs.ts';
import { proposalOf, type Bounds } from './proposal.ts';
import { askingLess, relaxationsAmong } from './relax.ts';
import { byPrice, maskOf, standingTo, WAITING, type NodeStanding, type Way } from './standing.ts';
import type { WarmWait } from './warmth.ts';

/** Rates as they stand in JSON. */
export type RatesJson = Readonly<Record<string, string>>;

/** The word for how many nodes a job begins on at once, among the constraints of a relaxation. */
const NODES = 'nodes';
const PRICE = maskOf(({ name }) => name === 'price');

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
  /** Rates that would admit the cheapest node kept away by price alone, or as many of them as are missing; null where that is not enough. */
  readonly priceThatWouldDo: RatesJson | null;
  /** The smallest changes that would place it, most useful first. */
  readonly relaxations: readonly {
    readonly constraints: readonly string[];
    readonly changes: readonly string[];
    /** What to change in the request, by parameter; null: leave it out. Taken together they are acceptable, and place it: see `isPriced`. */
    readonly set: Readonly<Record<string, string | null>>;
    /** False where nobody knows what the job may cost then: its price cap may keep these nodes away still. */
    readonly isPriced: boolean;
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

export interface Circumstances extends Bounds {
  /** What its rows wait for while nodes that would have to load the model are left alone. */
  readonly warmWait?: WarmWait | undefined;
  /** It begins on so many nodes at once; absent: on any. */
  readonly members?: number | undefined;
}

export function explainPlacement(
  of: Ask,
  candidates: readonly Candidate[],
  circumstances: Circumstances = {},
): Explanation {
  const ask = askExplained(of, circumstances);
  return atOnce(explainStandings(ask, candidates.map(standingTo(ask)), circumstances));
}

/** What is asked of a node, as the placement takes it. */
export function askExplained(of: Ask, { members = 1 }: Circumstances): Ask {
  return inClass(members === 1 ? of : memberAsk(of));
}

/** For who looks at thousands of nodes, and does other things between them. @param ask As {@link askExplained} has it. */
export function* explainStandings(
  ask: Ask,
  standings: readonly NodeStanding[],
  { warmWait, members = 1, ...bounds }: Circumstances = {},
): Steps<Explanation> {
  const counts = new Map<string, Eliminated>();
  let fitting = 0;
  yield* eachInSteps(standings, ({ node, first }) => {
    if (first === null) fitting += 1;
    else note(counts, first, ask, node);
  });
  const eliminated = CONSTRAINTS.flatMap((constraint) => {
    const counted = counts.get(constraint.name);
    if (counted === undefined) return [];
    const { nodes, endsInMs } = counted;
    const requirement = constraint.says(ask, nodes);
    const end = endsInMs === null ? {} : { endsInS: Math.ceil(endsInMs / 1_000) };
    return [{ constraint: constraint.name, requirement, nodes: nodes.length, ...end }];
  });
  yield;
  const relaxations = yield* relaxationsOf(ask, standings, members, bounds);
  yield;
  const isWarmWait = warmWait !== undefined && fitting === 0 && counts.has('warm-wait');
  return {
    nodes: standings.length,
    fitting,
    eliminated,
    cheapestOffer: cheapestOffer(ask, standings),
    priceThatWouldDo: priceThatWouldDo(ask, standings, Math.max(1, members - fitting)),
    relaxations,
    ...(isWarmWait ? { warmWait } : {}),
    ...(members === 1 ? {} : { members }),
    summary: summarise(standings.length, fitting, members, eliminated, relaxations[0]),
  };
}

function* relaxationsOf(
  ask: Ask,
  standings: readonly NodeStanding[],
  most: number,
  bounds: Bounds,
): Steps<Explanation['relaxations']> {
  const told: Explanation['relaxations'][number][] = [];
  for (const { constraints, waysIn, members } of relaxationsAmong(standings, most)) {
    yield;
    const ways = waysIn();
    yield;
    const nodes = cheapestOf(ways, members).map(({ node }) => node);
    const less = nodes.reduce(askingLess, ask);
    const rates = nodes.map((node) => ratesFor(less, node)).reduce(highestOf);
    const isFewer = members < most;
    const relaxed = { constraints, less, rates, members: isFewer ? members : undefined };
    const proposal = yield* proposalOf(ask, relaxed, bounds);
    if (proposal === null) continue;
    told.push({
      ...proposal,
      constraints: [...(isFewer ? [NODES] : []), ...constraints.map(({ name }) => name)],
      isPriced: bounds.maxCostFor !== undefined || Object.keys(proposal.set).length === 0,
      nodes: ways.length,
      inYourHands: constraints.every(({ lifted }) => lifted === 'by-asking-less'),
    });
  }
  return told;
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
  return obstacle(inClass(ask), idleNode(node)) === null;
}

/** Why no node could ever run it, or not as many as it begins on, even with nothing else to do and nobody away; null when they could. */
export function explainNever(ask: Ask, candidates: readonly Candidate[], members = 1): Explanation | null {
  const idle = explainPlacement(ask, candidates.map(idleNode), { members });
  return idle.fitting >= members ? null : idle;
}

/** A node as it is when all that only time lifts is over. */
export function idleNode(node: Candidate): Candidate {
  const isIdle = node.gpus.every(({ freeMilli, milli }) => freeMilli === milli);
  return {
    ...node,
    gpus: isIdle ? node.gpus : node.gpus.map((gpu) => ({ ...gpu, freeMilli: gpu.milli })),
    draining: false,
    rest: null,
    reserved: null,
    isSchedulerFull: false,
    benchedForMs: 0,
    leasesActive: 0,
    rowsUnaccepted: 0,
  };
}

function cheapestOffer(ask: Ask, standings: readonly NodeStanding[]): Explanation['cheapestOffer'] {
  const meeting = standings.flatMap(({ ways }) => ways.filter(({ failing }) => (failing & ~(PRICE | WAITING)) === 0));
  const [cheapest] = cheapestOf(meeting, 1);
  if (cheapest === undefined) return null;
  return { rates: unitsToJson(ratesFor(ask, cheapest.node)), withinCap: (cheapest.failing & PRICE) === 0 };
}

/** @param missing Nodes without which it does not begin. */
function priceThatWouldDo(ask: Ask, standings: readonly NodeStanding[], missing: number): RatesJson | null {
  const kept = standings
    .filter(({ first }) => first !== null)
    .flatMap(({ ways }) =>
      cheapestOf(
        ways.filter(({ failing }) => failing === PRICE),
        1,
      ),
    );
  const cheapest = cheapestOf(kept, missing);
  if (cheapest.length < missing) return null;
  return unitsToJson(cheapest.map(({ node }) => ratesFor(ask, node)).reduce(highestOf));
}

function highestOf(a: Rates, b: Rates): Rates {
  const most = (kind: UnitKind): bigint => ((a[kind] ?? 0n) > (b[kind] ?? 0n) ? (a[kind] ?? 0n) : (b[kind] ?? 0n));
  const kinds = UNIT_KINDS.filter((kind) => a[kind] !== undefined || b[kind] !== undefined);
  return Object.fromEntries(kinds.map((kind) => [kind, most(kind)]));
}

/** So many of them, cheapest first: a look at each, and no sorting of thousands. */
function cheapestOf(ways: readonly Way[], most: number): readonly Way[] {
  const cheapest: Way[] = [];
  for (const way of ways) {
    const last = cheapest.at(-1);
    if (cheapest.length >= most && last !== undefined && byPrice(way, last) >= 0) continue;
    const at = cheapest.findIndex((one) => byPrice(way, one) < 0);
    cheapest.splice(at < 0 ? cheapest.length : at, 0, way);
    if (cheapest.length > most) cheapest.pop();
  }
  return cheapest;
}

function summarise(
  nodes: number,
  fitting: number,
  members: number,
  eliminated: Explanation['eliminated'],
  first: Explanation['relaxations'][number] | undefined,
): string {
  if (nodes === 0) return 'No node is connected.';
  if (fitting >= members) return `${fitting} of ${nodes} nodes fit.`;
  const left = eliminated
    .map(({ nodes: some, requirement, endsInS }) => {
      const end = endsInS === undefined ? '' : ` (the first in ${endsInS} s)`;
      return `${some} left out because a node must be one that ${requirement}${end}`;
    })
    .join('; ');
  const asFar = first?.isPriced === false ? ', if what it may cost still does' : '';
  const help = first === undefined ? '' : ` What would place it${asFar}: ${first.changes.join(', and ')}.`;
  if (members === 1) return `None of ${nodes} nodes fits: ${left}.${help}`;
  const others = left === '' ? '' : `: ${left}`;
  return `It waits for ${members} nodes at once, and ${fitting} of ${nodes} fit${others}.${help}`;
}
