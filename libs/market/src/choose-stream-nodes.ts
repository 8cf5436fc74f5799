import {
  ALIKE_S,
  ANY_NODE,
  capFor,
  holdFor,
  LOAD_ASSUMED_S,
  roomOf,
  savedByCache,
  streamSeconds,
  streamTerms,
  unitsFromJson,
  type NodeNeeds,
  type Rates,
  type Usage,
} from '@freehold/domain';
import { isInRegion, type OfferModel } from '@freehold/protocol';
import type { ConnectedNode } from './ports/provider-link.ts';
import { fitsNode, loadSecondsOf, type MemoryListed } from './model-facts.ts';
import type { StreamLease } from './ports/job-store.ts';
import { unmetNeed, type UnmetNeed } from './unmet-need.ts';

/** What a request of the stream road asks of a node. */
export interface StreamAsk {
  readonly model: string;
  readonly kind: 'chat' | 'embedding';
  readonly region: string | null;
  /** What it asks of the node itself; absent: nothing. */
  readonly needs?: NodeNeeds;
  /** Smallest token units the request may cost; null: what is usual, or the catalogue's ceiling. */
  readonly maxCost: bigint | null;
  /** The catalogue's; null where it has none for the model. */
  readonly ceiling: Rates | null;
  /** What models take of memory by the catalogue; absent: it does not say. */
  readonly listed?: MemoryListed | undefined;
  /** Answered by an adapter: only engines that load them fit. */
  readonly adapter?: boolean;
  readonly worst: Usage;
  /** Tokens of the prompt's beginning that nodes computed a moment ago, by node. Counts on those that say they keep them. */
  readonly cachedOn?: ReadonlyMap<string, number>;
}

export interface StreamCandidate extends Omit<StreamLease, 'nonce'> {
  readonly address: string;
  readonly loaded: boolean;
  readonly freeSlots: number;
  readonly busyChats: number;
  /** The worst case at this node's posted rates. */
  readonly cost: bigint;
  readonly reputation: number;
  readonly cachedTokens: number;
  /** Seconds until it answers; 0 where it is loaded. */
  readonly loadS: number;
}

/** What a node would serve a request by, and whether it has the memory for it. */
interface Served extends StreamCandidate {
  readonly fits: boolean;
}

export interface Choice {
  /** In the order to try. */
  readonly candidates: readonly StreamCandidate[];
  /** How many nodes each requirement left out, in the order in which they are asked. */
  readonly eliminated: Readonly<Partial<Record<Obstacle, number>>>;
  readonly nodes: number;
  /** Smallest token units that the request may cost: the requester's cap, or else the market's. */
  readonly cap: bigint;
  /** The smallest cap that would admit a node which only the cap keeps away. */
  readonly priceThatWouldDo: bigint | null;
}

export type Obstacle = 'model' | 'model-memory' | 'region' | UnmetNeed | 'benched' | 'draining' | 'pool' | 'price';

/** What the market thinks of nodes. */
export interface Standing {
  readonly isBenched: (nodeId: string) => boolean;
  /** 0..1 */
  readonly reputation: (nodeId: string) => number;
  /** Whether the market has counted rows of a model there. */
  readonly hasRun: (nodeId: string, digest: string) => boolean;
  /** Whether it refused requests of a moment ago, or owes their first words; absent: nobody knows. */
  readonly isResting?: (nodeId: string) => boolean;
}

/** Nodes that are tried one after the other before the requester is told that none took it. */
export const STREAM_ATTEMPTS_MAX = 3;

/**
 * Nodes that refused nothing a moment ago, of these warm models first, then free slots, then what costs the requester least in price, load, company and prefill (`stream-score.ts` of the
 * domain). Of those that are alike in that two are drawn, and the one with more room goes first: looking at two keeps the load nearly
 * as even as looking at all, and no herd runs to the one node that looked idle a second ago.
 *
 * @param below Uniform in [0, bound).
 */
export function chooseStreamNodes(
  ask: StreamAsk,
  nodes: readonly ConnectedNode[],
  standing: Standing,
  below: (bound: number) => number,
): Choice {
  const eliminated: Partial<Record<Obstacle, number>> = {};
  const admitted: StreamCandidate[] = [];
  for (const node of nodes) {
    const candidate = candidateFor(ask, node, standing);
    const obstacle = obstacleOf(ask, node, candidate, standing);
    if (obstacle !== null) eliminated[obstacle] = (eliminated[obstacle] ?? 0) + 1;
    else if (candidate !== null) admitted.push(candidate);
  }
  const cap = ask.maxCost ?? usualCap(ask, admitted);
  const fitting = admitted.filter(({ cost }) => cost <= cap);
  const dear = admitted.filter(({ cost }) => cost > cap).map(({ cost }) => cost);
  if (dear.length > 0) eliminated.price = dear.length;
  const priceThatWouldDo = dear.length === 0 ? null : dear.reduce((a, b) => (a < b ? a : b));
  return { candidates: drawn(fitting, standing, below), eliminated, nodes: nodes.length, cap, priceThatWouldDo };
}

/** As for a batch that names no cap. */
function usualCap({ worst, ceiling }: StreamAsk, admitted: readonly StreamCandidate[]): bigint {
  const posted = admitted.map(({ rates }) => rates);
  const cap = capFor(worst, null, posted, ceiling);
  return cap.ok ? cap.cap : 0n;
}

function obstacleOf(
  ask: StreamAsk,
  node: ConnectedNode,
  candidate: Served | null,
  standing: Standing,
): Obstacle | null {
  if (candidate === null) return 'model';
  if (!candidate.fits) return 'model-memory';
  if (!isInRegion(ask.region, node.offer.region)) return 'region';
  const { needs = ANY_NODE } = ask;
  const unmet = needs === ANY_NODE ? null : unmetNeed(needs, node.offer, standing.reputation(node.id));
  if (unmet !== null) return unmet;
  if (standing.isBenched(node.id)) return 'benched';
  if (node.draining) return 'draining';
  // What costs nothing is a pool's, for its members; requests of this road belong to none.
  return candidate.cost === 0n && node.offer.pools.length > 0 ? 'pool' : null;
}

/** By the first of its models that may serve the request and fits the node; by the first of all where none fits. */
function candidateFor(ask: StreamAsk, node: ConnectedNode, standing: Standing): Served | null {
  let first: Served | null = null;
  for (const engine of node.offer.engines) {
    for (const model of engine.models) {
      if (model.name !== ask.model || model.kind !== ask.kind || (ask.adapter === true && !model.caps.lora)) continue;
      const served = servedBy(ask, node, standing, engine.class, model);
      if (served.fits) return served;
      first ??= served;
    }
  }
  return first;
}

function servedBy(
  ask: StreamAsk,
  node: ConnectedNode,
  standing: Standing,
  engineClass: string,
  model: OfferModel,
): Served {
  const { id, address, freeSlots, busyChats } = node;
  const { digest, loaded } = model;
  const rates: Rates = unitsFromJson(model.rates);
  return {
    nodeId: id,
    ...{ address, digest, engineClass, rates, loaded, freeSlots, busyChats },
    cost: holdFor(ask.worst, rates),
    reputation: standing.reputation(id),
    cachedTokens: savedByCache(rates) > 0 ? (ask.cachedOn?.get(id) ?? 0) : 0,
    loadS: loaded ? 0 : (loadSecondsOf(model, ask.listed) ?? LOAD_ASSUMED_S),
    fits: fitsNode(model, node.offer, ask.listed, standing.hasRun(id, digest)),
  };
}

interface Ranked {
  readonly candidate: StreamCandidate;
  readonly tier: number;
  readonly seconds: number;
}

function drawn(
  fitting: readonly StreamCandidate[],
  { isResting = () => false }: Standing,
  below: (bound: number) => number,
): StreamCandidate[] {
  const cheapest = fitting.reduce((least, { cost }) => (cost < least ? cost : least), fitting[0]?.cost ?? 0n);
  const left = fitting.map((candidate): Ranked => {
    const seconds = streamSeconds(streamTerms(candidate, cheapest));
    return { candidate, tier: tierOf(candidate) + (isResting(candidate.nodeId) ? RESTING_TIER : 0), seconds };
  });
  const order: StreamCandidate[] = [];
  while (left.length > 0 && order.length < STREAM_ATTEMPTS_MAX) {
    const best = Math.min(...left.map(({ tier }) => tier));
    const inTier = left.filter(({ tier }) => tier === best);
    const least = Math.min(...inTier.map(({ seconds }) => seconds));
    const alike = inTier.filter(({ seconds }) => seconds <= least + ALIKE_S);
    const one = alike[below(alike.length)];
    const two = alike[below(alike.length)];
    const chosen = one !== undefined && two !== undefined && isBetter(two, one) ? two : one;
    if (chosen === undefined) return order;
    order.push(chosen.candidate);
    left.splice(left.indexOf(chosen), 1);
  }
  return order;
}

/** After all others, and before nobody. */
const RESTING_TIER = 4;

/** Lower is better. A cold start costs seconds, a wait for a slot at most a quarter of one. */
function tierOf(candidate: StreamCandidate): number {
  return (candidate.loaded ? 0 : 2) + (candidate.freeSlots > 0 ? 0 : 1);
}

function isBetter(one: Ranked, other: Ranked): boolean {
  if (one.seconds !== other.seconds) return one.seconds < other.seconds;
  return roomOf(one.candidate) > roomOf(other.candidate);
}
