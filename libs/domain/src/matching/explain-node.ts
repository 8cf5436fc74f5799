import { unitsToJson, type Rates } from '../units/units.ts';
import { inClass, type Ask, type Candidate, type KeptFor } from './ask.ts';
import { CONSTRAINTS, obstacle, ratesFor, type Constraint } from './constraints.ts';
import type { RatesJson } from './explain.ts';
import { memberAsk } from './gangs.ts';
import { isBefore, Lineup, type Place } from './lineup.ts';
import { scanCost } from './placement-index/scan.ts';
import { ENGINES_STAND } from './placer.ts';
import { scoreTerms, type ScoreTerms } from './score.ts';
import { servedModel } from './served-model.ts';

/** Why a node gets (no) work now, and only now: each job whose rows wait, by its next task, as the node stands among the others. */
export interface NodeExplanation {
  readonly considered: number;
  /** Jobs for which this node would be the next to get a task. */
  readonly won: number;
  /** By the first constraint that keeps the node away, or by what made another node the better one. */
  readonly lost: readonly { readonly reason: string; readonly says: string; readonly jobs: number }[];
  /** The highest of its own rates at which it would have won one more job; null when no price would. */
  readonly priceThatWouldWin: { readonly rates: RatesJson; readonly percentOfAsked: number } | null;
  readonly summary: string;
}

/** What made another node the better one, by the term of its lead. */
const OUTDONE: Readonly<Record<keyof ScoreTerms | 'load' | 'even', Reason>> = {
  price: { reason: 'dearer', says: 'another node is cheaper' },
  coldStart: { reason: 'colder', says: 'another node has the model loaded, or loads it sooner' },
  eviction: {
    reason: 'displacing',
    says: 'another node has room for the model, or drives out one that is wanted less',
  },
  slowness: { reason: 'slower', says: 'another node is faster, as measured' },
  unreliability: { reason: 'less-reliable', says: 'another node loses or spoils less work' },
  locality: { reason: 'farther', says: 'another node holds the prompt already' },
  load: { reason: 'busier', says: 'another node holds fewer leases' },
  even: { reason: 'even', says: 'another node is as good, and chance decides between them' },
};
/** Names are unique; the constraint stands. */
const ELSEWHERE = CONSTRAINTS.find(({ name }) => name === 'scheduler') as Constraint;

interface Reason {
  readonly reason: string;
  readonly says: string;
}

/** Rates at which a node would have got one more job, and which share of what it asks they are. */
interface Win {
  readonly rates: Rates;
  readonly share: number;
}

export function explainNode(node: Candidate, asks: readonly Ask[], candidates: readonly Candidate[]): NodeExplanation {
  const turns = new NodeTurns(node, new Lineup(candidates));
  for (const ask of asks) turns.consider(ask);
  return turns.explanation();
}

/** One node among others, job by job: who has hundreds of jobs to ask about does other things between them. */
export class NodeTurns {
  readonly #node: Candidate;
  readonly #lineup: Lineup;
  readonly #lost = new Map<string, { reason: string; says: string; jobs: number }>();
  #considered = 0;
  #won = 0;
  #best: Win | null = null;

  /** @param lineup All nodes, this one among them or not. */
  constructor(node: Candidate, lineup: Lineup) {
    this.#node = node;
    this.#lineup = lineup;
  }

  /** What {@link consider} rests on, a step at a time: of a new kind of job it asks every node. */
  *learning(of: Ask, members?: number): Generator<void> {
    const ask = askedOfNodes(of, members);
    if (members !== undefined || isPriced(obstacle(ask, this.#node), ask, this.#node))
      yield* this.#lineup.learning(ask);
  }

  /** @param members It begins on so many nodes at once, or not yet: then nobody is next in its turn, and it counts for nothing. */
  consider(of: Ask, members?: number): void {
    const ask = askedOfNodes(of, members);
    const standing = this.#standingIn(ask, members ?? 1);
    if (standing === null) return;
    this.#considered += 1;
    if (standing === 'next') this.#won += 1;
    else this.#lose(standing);
  }

  explanation(): NodeExplanation {
    const [considered, won, best] = [this.#considered, this.#won, this.#best];
    const lost = [...this.#lost.values()].sort((a, b) => b.jobs - a.jobs || (a.reason < b.reason ? -1 : 1));
    const priceThatWouldWin =
      best === null ? null : { rates: unitsToJson(best.rates), percentOfAsked: percentOf(best) };
    return { considered, won, lost, priceThatWouldWin, summary: summarise(considered, won, lost, best) };
  }

  #lose({ reason, says }: Reason): void {
    const known = this.#lost.get(reason);
    if (known === undefined) this.#lost.set(reason, { reason, says, jobs: 1 });
    else known.jobs += 1;
  }

  /** Null: nobody is next. */
  #standingIn(ask: Ask, members: number): Reason | 'next' | null {
    const node = this.#node;
    const kept = obstacle(ask, node);
    const isOne = isPriced(kept, ask, node);
    // What keeps it away no rival changes; but others decide whether a gang begins.
    if (kept !== null && !isOne && members === 1) return keptBy(kept, ask, node);
    const rivals = this.#rivals(ask, members, (other) => members === 1 || other.scheduler === node.scheduler);
    // What no price would mend keeps it from being one of them.
    if (rivals.length + (isOne ? 1 : 0) < members) {
      if (!this.#beginsElsewhere(ask, members)) return null;
      return keptBy(kept ?? ELSEWHERE, ask, node);
    }
    // It needs to be before the last of those who would be chosen without it.
    const rival = rivals[members - 1] ?? null;
    const cost = kept === null ? scanCost(ENGINES_STAND, ask, node) : null;
    if (cost !== null && (rival === null || isBefore({ node, cost }, rival))) return 'next';
    const win = isOne ? winningPrice(ask, node, rival) : null;
    if (win !== null && (this.#best === null || win.share > this.#best.share)) this.#best = win;
    return kept === null && rival !== null ? outdone(ask, node, rival) : keptBy(kept ?? ELSEWHERE, ask, node);
  }

  #rivals(ask: Ask, most: number, counts: (other: Candidate) => boolean): readonly Place[] {
    return this.#lineup.best(ask, most, (other) => other.nodeId !== this.#node.nodeId && counts(other));
  }

  #beginsElsewhere(ask: Ask, members: number): boolean {
    return this.#lineup.schedulers.some(
      (scheduler) =>
        scheduler !== this.#node.scheduler &&
        this.#rivals(ask, members, (other) => other.scheduler === scheduler).length === members,
    );
  }
}

function askedOfNodes(of: Ask, members: number | undefined): Ask {
  return inClass(members === undefined ? of : memberAsk(of));
}

/** The term in which the winner's lead is largest. */
function outdone(ask: Ask, node: Candidate, rival: Place): Reason {
  if (rival.node.leasesActive < node.leasesActive) return OUTDONE.load;
  const [own, theirs] = [scoreTerms(ask, node), scoreTerms(ask, rival.node)];
  const names = Object.keys(own) as (keyof ScoreTerms)[];
  const most = names.reduce((best, name) => (own[name] - theirs[name] > own[best] - theirs[best] ? name : best));
  return own[most] > theirs[most] ? OUTDONE[most] : OUTDONE.even;
}

function keptBy(kept: Constraint, ask: Ask, node: Candidate): Reason {
  return { reason: kept.name, says: mustBe(kept, ask, node) };
}

/** Why a constraint keeps a node away, with what is known of this one. */
export function mustBe(constraint: Constraint, ask: Ask, node: Candidate): string {
  const why =
    constraint.name === 'benched' && node.benchedWhy !== null
      ? `; this one is: ${node.benchedWhy}`
      : constraint.name === 'resting' && node.rest
        ? `; this one does for ${Math.ceil(node.rest.forMs / 1_000)} s: ${node.rest.why}`
        : constraint.name === 'reserved' && node.reserved
          ? saysKept(node.reserved, node.leasesActive > 0)
          : '';
  return `a node must be one that ${constraint.says(ask, [node])}${why}`;
}

/** A node is kept from when its batch begins; until then it is lent to what is over by then, or stands idle. */
function saysKept({ forMs, startsInMs = 0 }: KeptFor, isLent: boolean): string {
  const [startsInS, forS] = [Math.ceil(startsInMs / 1_000), Math.ceil(forMs / 1_000)];
  if (startsInS === 0) return `; this one is, and in ${forS} s at the latest it is free for others`;
  const [lent, who] = isLent ? [' what the node does now is to be over by then,', 'it'] : ['', 'the node'];
  return `; this one is: the batch begins in about ${startsInS} s,${lent} and in ${forS} s at the latest ${who} is free for others`;
}

/** Shares of the asked rates tried: a hundredth apart is as fine as anybody prices. */
const PRICE_STEPS = 100;

/** Whether it is among those who could have it, at some price. */
function isPriced(kept: Constraint | null, ask: Ask, node: Candidate): boolean {
  return kept === null || (kept.name === 'price' && mayWin(ask, node));
}

/** Whether there is any price at which nothing keeps it away. */
function mayWin(ask: Ask, node: Candidate): boolean {
  return keepsOut(ask, atShare(ask, node, 1)) === null;
}

/** What keeps a node away but that it asks nothing: a price may be too low for that, and every other constraint holds the sooner the lower it is. */
function keepsOut(ask: Ask, node: Candidate): Constraint | null {
  return CONSTRAINTS.find(({ name, holds }) => name !== 'pool' && !holds(ask, node)) ?? null;
}

/** The highest share of its rates at which the node would have got a task of this ask: found by halving, since cost grows with price. */
function winningPrice(ask: Ask, node: Candidate, rival: Place | null): Win | null {
  const isLow = (steps: number): boolean => {
    const cheaper = atShare(ask, node, steps);
    if (keepsOut(ask, cheaper) !== null) return false;
    const cost = scanCost(ENGINES_STAND, ask, cheaper);
    return cost !== null && (rival === null || isBefore({ node: cheaper, cost }, rival));
  };
  let [low, high] = [0, PRICE_STEPS];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (isLow(middle)) low = middle;
    else high = middle - 1;
  }
  if (low === 0 || obstacle(ask, atShare(ask, node, low)) !== null) return null;
  return { rates: scaled(ratesFor(ask, node), low), share: low / PRICE_STEPS };
}

function atShare(ask: Ask, node: Candidate, steps: number): Candidate {
  return withRates(ask, node, scaled(ratesFor(ask, node), steps));
}

/** Whole hundredths: 0.29 · 100 is a little less than 29 in floating point. */
function percentOf({ share }: { readonly share: number }): number {
  return Math.round(share * 100);
}

/** So many hundredths of rates, rounded down. */
export function scaled(rates: Rates, steps: number): Rates {
  return Object.fromEntries(
    Object.entries(rates).map(([kind, rate]) => [kind, (rate * BigInt(steps)) / BigInt(PRICE_STEPS)]),
  );
}

function withRates(ask: Ask, node: Candidate, rates: Rates): Candidate {
  const served = servedModel(ask, node);
  if (served === undefined) return { ...node, gpuRates: rates };
  return { ...node, models: node.models.map((model) => (model === served ? { ...model, rates } : model)) };
}

function summarise(
  considered: number,
  won: number,
  lost: NodeExplanation['lost'],
  best: { readonly share: number } | null,
): string {
  if (considered === 0) return 'No job has rows that wait for a node.';
  if (won > 0) return `Next in turn for ${won} of the ${considered} jobs whose rows wait now.`;
  const why = lost.map(({ jobs, says }) => `${jobs} because ${says}`).join('; ');
  const price =
    best === null
      ? ' No lower price would have won one.'
      : ` At ${percentOf(best)} % of its rates it would have won one.`;
  return `Lost all ${considered} jobs whose rows wait now: ${why}.${price}`;
}
