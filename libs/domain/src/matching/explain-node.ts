import { unitsToJson, type Rates } from '../units/units.ts';
import type { Ask, Candidate } from './ask.ts';
import { obstacle, ratesFor, type Constraint } from './constraints.ts';
import type { RatesJson } from './explain.ts';
import { scanCost } from './placement-index/scan.ts';
import { ENGINES_STAND, Placer } from './placer.ts';
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
const OUTDONE: Readonly<Record<keyof ScoreTerms | 'load', { readonly reason: string; readonly says: string }>> = {
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
};

export function explainNode(node: Candidate, asks: readonly Ask[], candidates: readonly Candidate[]): NodeExplanation {
  const lostBy = new Map<string, { reason: string; says: string; jobs: number }>();
  const rivals = new Rivals(candidates.filter(({ nodeId }) => nodeId !== node.nodeId));
  let won = 0;
  let best: { rates: Rates; share: number } | null = null;
  for (const ask of asks) {
    const rival = rivals.nextFor(ask);
    const kept = obstacle(ask, node);
    const cost = kept === null ? scanCost(ENGINES_STAND, ask, node) : null;
    if (cost !== null && (rival === null || isBefore(cost, node, rival))) {
      won += 1;
      continue;
    }
    const { reason, says } =
      kept === null ? outdone(ask, node, rival) : { reason: kept.name, says: mustBe(kept, ask, node) };
    const known = lostBy.get(reason);
    if (known === undefined) lostBy.set(reason, { reason, says, jobs: 1 });
    else known.jobs += 1;
    const win = winningPrice(ask, node, rival);
    if (win !== null && (best === null || win.share > best.share)) best = win;
  }
  const lost = [...lostBy.values()].sort((a, b) => b.jobs - a.jobs || (a.reason < b.reason ? -1 : 1));
  const priceThatWouldWin = best === null ? null : { rates: unitsToJson(best.rates), percentOfAsked: percentOf(best) };
  return { considered: asks.length, won, lost, priceThatWouldWin, summary: summarise(asks.length, won, lost, best) };
}

interface Rival {
  readonly node: Candidate;
  readonly cost: number;
}

/** The other nodes, in the placement's own index: a look at each of thousands for each of hundreds of jobs would hold up who asks. */
class Rivals {
  readonly #nodes: ReadonlyMap<string, Candidate>;
  readonly #placer = new Placer();

  constructor(nodes: readonly Candidate[]) {
    this.#nodes = new Map(nodes.map((node) => [node.nodeId, node]));
    for (const node of nodes) this.#placer.put(node);
  }

  /** Where the next task of an ask would go. */
  nextFor(ask: Ask): Rival | null {
    const [next] = this.#placer.place([{ ask, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] }], 1);
    const node = this.#nodes.get(next?.nodeId ?? '');
    if (node === undefined) return null;
    // It got nothing: this is only a question.
    this.#placer.put(node);
    const cost = scanCost(ENGINES_STAND, ask, node);
    return cost === null ? null : { node, cost };
  }
}

function isBefore(cost: number, node: Candidate, rival: Rival): boolean {
  return cost < rival.cost || (cost === rival.cost && node.nodeId < rival.node.nodeId);
}

/** The term in which the winner's lead is largest. */
function outdone(ask: Ask, node: Candidate, rival: Rival | null): { readonly reason: string; readonly says: string } {
  if (rival === null || rival.node.leasesActive < node.leasesActive) return OUTDONE.load;
  const [own, theirs] = [scoreTerms(ask, node), scoreTerms(ask, rival.node)];
  const names = Object.keys(own) as (keyof ScoreTerms)[];
  return OUTDONE[names.reduce((most, name) => (own[name] - theirs[name] > own[most] - theirs[most] ? name : most))];
}

/** Why a constraint keeps a node away, with what is known of this one. */
export function mustBe(constraint: Constraint, ask: Ask, node: Candidate): string {
  const why =
    constraint.name === 'benched' && node.benchedWhy !== null
      ? `; this one is: ${node.benchedWhy}`
      : constraint.name === 'resting' && node.rest
        ? `; this one does for ${Math.ceil(node.rest.forMs / 1_000)} s: ${node.rest.why}`
        : constraint.name === 'reserved' && node.reserved
          ? `; this one is for ${Math.ceil(node.reserved.forMs / 1_000)} s more at most`
          : '';
  return `a node must be one that ${constraint.says(ask, [node])}${why}`;
}

/** Shares of the asked rates tried: a hundredth apart is as fine as anybody prices. */
const PRICE_STEPS = 100;

/** The highest share of its rates at which the node would have got a task of this ask: found by halving, since cost grows with price. */
function winningPrice(ask: Ask, node: Candidate, rival: Rival | null): { rates: Rates; share: number } | null {
  const wins = (steps: number): boolean => {
    const cheaper = withRates(ask, node, scaled(ratesFor(ask, node), steps));
    if (obstacle(ask, cheaper) !== null) return false;
    const cost = scanCost(ENGINES_STAND, ask, cheaper);
    return cost !== null && (rival === null || isBefore(cost, cheaper, rival));
  };
  if (!wins(0)) return null;
  let [low, high] = [0, PRICE_STEPS];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (wins(middle)) low = middle;
    else high = middle - 1;
  }
  return low === 0 ? null : { rates: scaled(ratesFor(ask, node), low), share: low / PRICE_STEPS };
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
