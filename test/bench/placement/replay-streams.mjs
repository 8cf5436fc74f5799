/** A trace of chats on nodes with prefix caches, through the rule by which the stream road chooses nodes and what it knows of prompts. */
import { chance } from '@freehold/domain';
import { chooseStreamNodes, PromptPrefixes } from '@freehold/market';
import { EventHeap } from '@freehold/testing/placement';
import { Lru, SLOTS } from './replay-market.mjs';

const MODEL = 'm';
/** The trace does not say whose its requests are: all are one organisation's, who can know least of each. */
const ORG = 'trace';
const RATES = { inputToken: '1000000', cachedInputToken: '100000', outputToken: '1000000' };

/**
 * @param work    [{ atS, blocks }] by arrival.
 * @param caches  { blocks, tokensPerBlock, serviceS(hitBlocks, request) }: what an engine keeps, which its node says nothing of.
 * @param isKnown Whether anything of earlier prompts is known: false is the road without the rule.
 */
export function replayStreams({ work, nodes, caches, isKnown = true, seed = 1 }) {
  const rng = chance(seed);
  let nowS = 0;
  const prefixes = new PromptPrefixes(
    { nowMs: () => nowS * 1_000 },
    { bytes: (length) => Uint8Array.from({ length }, () => rng.below(256)) },
  );
  const fleet = new Map(
    Array.from({ length: nodes }, (_, i) => [
      String(i).padStart(6, '0'),
      { running: 0, cache: new Lru(caches.blocks), offer: { region: 'eu', pools: [], engines: [engine()] } },
    ]),
  );
  const ends = new EventHeap();
  let [hitBlocks, crowded] = [0, 0];
  for (const request of work) {
    nowS = request.atS;
    for (let end = ends.peek(); end !== undefined && end.atS <= nowS; end = ends.peek()) {
      ends.pop();
      fleet.get(end.node).running -= 1;
      prefixes.note(ORG, end.blocks, end.node);
    }
    const blocks = (request.blocks ?? []).map(String);
    const known = isKnown ? [...prefixes.holding(ORG, blocks)] : [];
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
    const node = fleet.get(first.nodeId);
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

function engine() {
  const model = { name: MODEL, digest: 'd', kind: 'chat', loaded: true, rates: RATES, caps: { lora: false } };
  return {
    class: 'c',
    models: [{ ...model, slots: SLOTS, contextTokens: 131_072, quantisation: 'q', rowsPerSecond: 1 }],
  };
}

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
