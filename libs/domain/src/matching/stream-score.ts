/** Prompt tokens that a usual GPU computes in a second for a model of 8 billion parameters; nobody's own word is needed for it. */
const PREFILL_TOKENS_PER_S = 4_000;
/** A chat beside another slows both: as much as so many tokens of prompt computed again. */
const COMPANION_TOKENS = 200;
/** For so many seconds less of waiting a requester would pay the price once more. */
const PRICE_S = 10;
/** A chat that a node loses is begun anew on another one: about so much later. */
const LOST_S = 1;
/** What nodes say of their own room counts up to here: beyond it more of it is no reason to choose one. */
const FREE_SLOTS_COUNTED_MAX = 8;

/** Nodes that differ by less are alike: it takes one chat more to part them, and what is known of that is a second old. */
export const ALIKE_S = COMPANION_TOKENS / PREFILL_TOKENS_PER_S;

/** A node as one request of the stream road sees it. */
export interface StreamFacts {
  /** The request's worst case at the node's rates, in the smallest token unit. */
  readonly cost: bigint;
  readonly busyChats: number;
  readonly freeSlots: number;
  /** 0..1, see `reputationOf`. */
  readonly reputation: number;
  /** Tokens of the prompt's beginning that it computed a moment ago and keeps. */
  readonly cachedTokens: number;
  /** Seconds until its model answers; 0 where it is loaded. */
  readonly loadS: number;
}

/** What choosing a node costs the requester: every term in seconds of waiting, so that they can be added and argued with. */
export interface StreamTerms {
  /** What it costs more than the cheapest that fits, as seconds that would be worth it. */
  readonly price: number;
  /** Until its model is loaded. */
  readonly coldStart: number;
  /** The chance that it loses the request, times what that takes. */
  readonly unreliability: number;
  /** What the chats that are under way there take away. */
  readonly company: number;
  /** Prefill that is not done again. Never positive. */
  readonly prefix: number;
}

/** @param cheapest The least that the request costs on a node that fits. */
export function streamTerms(node: StreamFacts, cheapest: bigint): StreamTerms {
  const least = Math.max(1, Number(cheapest));
  return {
    price: (PRICE_S * Math.max(0, Number(node.cost) - Number(cheapest))) / least,
    coldStart: Math.max(0, node.loadS),
    unreliability: (1 - node.reputation) * LOST_S,
    company: Math.max(0, node.busyChats) * ALIKE_S,
    prefix: node.cachedTokens > 0 ? -node.cachedTokens / PREFILL_TOKENS_PER_S : 0,
  };
}

export function streamSeconds({ price, coldStart, unreliability, company, prefix }: StreamTerms): number {
  return price + coldStart + unreliability + company + prefix;
}

/** Free slots that count, of those that a node says it has. */
export function roomOf({ freeSlots }: StreamFacts): number {
  return Math.min(FREE_SLOTS_COUNTED_MAX, freeSlots);
}
