/** A trace of chats on nodes with prefix caches, through the rule by which the stream road chooses nodes and what it knows of prompts. */
import { chance } from '@freehold/domain';
import { chooseStreamNodes, PromptPrefixes } from '@freehold/market';
import { EventHeap, PrefixCache, SLOTS } from '@freehold/testing/placement';
import { bareOffer } from '../house/bare-offer.mjs';

/**
 * @import { ConnectedNode, StreamAsk } from '@freehold/market'
 * @import { Offer } from '@freehold/protocol'
 * @import { PrefixCaches, TraceRequest } from '@freehold/testing/placement'
 *
 * @typedef {{ running: number; readonly cache: PrefixCache; readonly offer: Offer }} StreamNode
 */

const MODEL = 'm';
/** The trace does not say whose its requests are: all are one organisation's, who can know least of each. */
const ORG = 'trace';
/** Longer than any trace. */
const STANDS_S = 86_400;
const RATES = { inputToken: '1000000', cachedInputToken: '100000', outputToken: '1000000' };

/**
 * @param {object} setting
 * @param {readonly TraceRequest[]} setting.work By arrival.
 * @param {number} setting.nodes
 * @param {PrefixCaches<TraceRequest>} setting.caches What an engine keeps, which its node says nothing of.
 * @param {boolean} [setting.isKnown] Whether anything of earlier prompts is known: false is the road without the rule.
 * @param {number} [setting.seed]
 */
export function replayStreams({ work, nodes, caches, isKnown = true, seed = 1 }) {
  const rng = chance(seed);
  let nowS = 0;
  const prefixes = new PromptPrefixes(
    { nowMs: () => nowS * 1_000 },
    { bytes: (length) => Uint8Array.from({ length }, () => rng.below(256)) },
  );
  /** @type {Map<string, StreamNode>} */
  const fleet = new Map();
  for (let i = 0; i < nodes; i += 1) {
    const id = String(i).padStart(6, '0');
    const { offer } = bareOffer(id, '00'.repeat(20), STANDS_S);
    fleet.set(id, { running: 0, cache: new PrefixCache(caches.blocks), offer: { ...offer, engines: [engine()] } });
  }
  const nodeAt = (/** @type {string} */ id) => {
    const node = fleet.get(id);
    if (node === undefined) throw new Error(`there is no node ${id}`);
    return node;
  };
  /** @type {EventHeap<{ readonly atS: number; readonly node: string; readonly blocks: readonly string[] }>} */
  const ends = new EventHeap();
  let [hitBlocks, crowded] = [0, 0];
  for (const request of work) {
    nowS = request.atS;
    for (let end = ends.peek(); end !== undefined && end.atS <= nowS; end = ends.peek()) {
      ends.pop();
      nodeAt(end.node).running -= 1;
      prefixes.note(ORG, end.blocks, end.node);
    }
    const blocks = (request.blocks ?? []).map(String);
    const known = isKnown ? [...prefixes.holding(ORG, blocks)] : [];
    /** @type {StreamAsk} */
    const ask = {
      model: MODEL,
      kind: 'chat',
      region: null,
      maxCost: null,
      ceiling: null,
      worst: { inputToken: BigInt(request.prompt), outputToken: BigInt(request.output) },
      cachedOn: new Map(known.map(([id, count]) => [id, count * caches.tokensPerBlock])),
    };
    const [first] = chooseStreamNodes(ask, connected(fleet), STANDING, (bound) => rng.below(bound)).candidates;
    const node = nodeAt(first.nodeId);
    crowded += Number(node.running >= SLOTS);
    const hits = node.cache.prefix(request.blocks ?? []);
    hitBlocks += hits;
    node.cache.use(request.blocks ?? []);
    node.running += 1;
    ends.push({ atS: nowS + caches.serviceS(hits, request), node: first.nodeId, blocks });
  }
  return { hitBlocks, crowded };
}

const STANDING = { isBenched: () => false, reputation: () => 1, hasRun: () => true };

/** @returns {Offer['engines'][number]} */
function engine() {
  const caps = { tokens: true, logprobs: true, promptLogprobs: true, seed: true, lora: false, embeddings: false };
  /** @type {Offer['engines'][number]['models'][number]} */
  const model = {
    name: MODEL,
    digest: 'd',
    kind: 'chat',
    quantisation: 'q',
    contextTokens: 131_072,
    slots: SLOTS,
    loaded: true,
    caps,
    rates: RATES,
    rowsPerSecond: 1,
  };
  return { class: 'c', models: [model] };
}

/**
 * @param {ReadonlyMap<string, StreamNode>} fleet
 * @returns {ConnectedNode[]}
 */
function connected(fleet) {
  return [...fleet].map(([id, { running, offer }]) => ({
    id,
    address: '',
    offer,
    freeSlots: Math.max(0, SLOTS - running),
    busyChats: running,
    draining: false,
    leases: [],
    lastHeardMs: 0,
  }));
}
