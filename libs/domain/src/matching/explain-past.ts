import { microCost, unitsToJson, type Rates } from '../units/units.ts';
import type { Ask, Candidate } from './ask.ts';
import { CONSTRAINTS, ratesFor } from './constraints.ts';
import { mustBe, scaled, type NodeExplanation } from './explain-node.ts';
import { countedKinds } from './served-model.ts';
import { unitOf } from './typical-unit.ts';

/** A job that is over: what it asked of nodes, and who worked on it at which rates. */
export interface PastWork {
  /** With its whole window as the time left. */
  readonly ask: Ask;
  /** Whether the node that asks did some of it. */
  readonly isOwn: boolean;
  /** The different rates of its leases. */
  readonly paid: readonly Rates[];
  /** Leases of it that the node turned away itself, and why the last of them; null: none. */
  readonly refused: { readonly leases: number; readonly why: string } | null;
  /** Leases of it that were taken back from the node, with nothing done of them, and why the last of them; null: none. */
  readonly takenBack: { readonly leases: number; readonly why: string } | null;
}

/** What of the past was looked at. */
export interface PastLook {
  /** The node may have come meanwhile. */
  readonly withinMs: number;
  /** There are more works than these. */
  readonly hasMore: boolean;
}

/** How a node as it offers itself now stands to work that is over: why it went to others. */
export interface PastExplanation {
  /** The time that is looked at: what was before the node came is none of its affair. */
  readonly withinS: number;
  /** These are the last of more. */
  readonly hasMore: boolean;
  readonly considered: number;
  /** Jobs of which it did some. */
  readonly won: number;
  /** Leases of these jobs that it turned away itself. */
  readonly refused: number;
  /** Leases of these jobs that were taken back from it. */
  readonly takenBack: number;
  /** By that, by the first requirement that its offer does not meet, or by what decided among those that met all. */
  readonly lost: NodeExplanation['lost'];
  /** The highest share of its rates that is no more than one of those jobs paid, and within its cap; null when no price would have been. */
  readonly priceThatWouldHaveWon: NodeExplanation['priceThatWouldWin'];
  readonly summary: string;
}

/** What stands while an offer does; how much of it was free then, nobody remembers. */
const OF_OFFER = CONSTRAINTS.filter(({ reads, lifted }) => reads === 'offer' && lifted !== 'by-waiting');
const DEARER = { reason: 'dearer', says: 'it asks more than anybody was paid for it' } as const;
/** What is paid is the price of a tick, and not what those asked who were chosen: that nobody remembers. */
const PASSED_OVER = { reason: 'passed-over', says: 'others asked less, were free, faster or better known' } as const;
const PERCENT = 100n;

export function explainPast(
  node: Candidate,
  works: readonly PastWork[],
  { withinMs, hasMore }: PastLook,
): PastExplanation {
  const lost = new Map<string, { reason: string; says: string; jobs: number }>();
  let best: PastExplanation['priceThatWouldHaveWon'] = null;
  for (const work of works) {
    if (work.isOwn) continue;
    const why = whyLost(node, work);
    const known = lost.get(why.reason);
    if (known === undefined) lost.set(why.reason, { ...why, jobs: 1 });
    else known.jobs += 1;
    // What it turned away or lost its price had won.
    const price = work.refused === null && work.takenBack === null ? priceOf(node, work) : null;
    if (price !== null && (best === null || price.percentOfAsked > best.percentOfAsked)) best = price;
  }
  const past = {
    withinS: Math.ceil(withinMs / 1_000),
    hasMore,
    considered: works.length,
    won: works.filter(({ isOwn }) => isOwn).length,
    refused: works.reduce((sum, { refused }) => sum + (refused?.leases ?? 0), 0),
    takenBack: works.reduce((sum, { takenBack }) => sum + (takenBack?.leases ?? 0), 0),
    lost: [...lost.values()].sort((a, b) => b.jobs - a.jobs || (a.reason < b.reason ? -1 : 1)),
    priceThatWouldHaveWon: best,
  };
  return { ...past, summary: summarise(past) };
}

function whyLost(node: Candidate, work: PastWork): { readonly reason: string; readonly says: string } {
  if (work.refused !== null)
    return { reason: 'refused', says: `it was given rows of it and turned them away itself: ${work.refused.why}` };
  if (work.takenBack !== null)
    return { reason: 'taken-back', says: `it was given rows of it, and they were taken back: ${work.takenBack.why}` };
  const [first] = OF_OFFER.filter((constraint) => !constraint.holds(work.ask, node));
  if (first !== undefined) return { reason: first.name, says: mustBe(first, work.ask, node) };
  return costAt(work.ask, ratesFor(work.ask, node)) > mostPaid(work) ? DEARER : PASSED_OVER;
}

/** Where nothing but its price kept the node away. */
function priceOf(node: Candidate, work: PastWork): PastExplanation['priceThatWouldHaveWon'] {
  const { ask } = work;
  if (OF_OFFER.some(({ name, holds }) => name !== 'price' && !holds(ask, node))) return null;
  const rates = ratesFor(ask, node);
  const [asked, paid] = [costAt(ask, rates), mostPaid(work)];
  if (asked <= paid) return null;
  // What it asks of each kind has to be within the cap as well.
  const shares = countedKinds(ask.rateCaps).flatMap((kind) => {
    const [rate, cap] = [rates[kind] ?? 0n, ask.rateCaps[kind] ?? 0n];
    return rate > cap ? [(cap * PERCENT) / rate] : [];
  });
  const percent = Number(shares.reduce((least, share) => (share < least ? share : least), (paid * PERCENT) / asked));
  return percent < 1 ? null : { rates: unitsToJson(scaled(rates, percent)), percentOfAsked: percent };
}

function mostPaid({ ask, paid }: PastWork): bigint {
  return paid.map((rates) => costAt(ask, rates)).reduce((most, one) => (one > most ? one : most), 0n);
}

function costAt(ask: Ask, rates: Rates): bigint {
  return microCost(unitOf(ask), rates);
}

function summarise({
  hasMore,
  considered,
  won,
  refused,
  takenBack,
  lost,
  priceThatWouldHaveWon: price,
}: Omit<PastExplanation, 'summary'>): string {
  if (considered === 0) return 'No batch of its models was over.';
  const missed = considered - won;
  const why = lost.map(({ jobs, says }) => `${jobs} because ${says}`).join('; ');
  return [
    `Of ${hasMore ? 'the last ' : ''}${considered} batches of its models it worked on ${won}.`,
    ...(missed === 0 ? [] : [`It had no part in ${missed}: ${why}.`]),
    ...(refused === 0 ? [] : [`It turned ${refused} ${refused === 1 ? 'lease' : 'leases'} of them away itself.`]),
    ...(takenBack === 0
      ? []
      : [`${takenBack} ${takenBack === 1 ? 'lease of them was' : 'leases of them were'} taken back from it.`]),
    ...(price === null
      ? []
      : [`At ${price.percentOfAsked} % of its rates it would have asked no more than was paid for one.`]),
  ].join(' ');
}
