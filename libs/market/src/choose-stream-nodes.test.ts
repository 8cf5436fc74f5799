import { describe, expect, it } from '@jest/globals';
import { ANY_NODE, type NodeNeeds } from '@freehold/domain';
import type { Catalogue, Offer, OfferModel } from '@freehold/protocol';
import { chooseStreamNodes, type Standing, type StreamAsk } from './choose-stream-nodes.ts';
import { memoryListed } from './model-facts.ts';
import type { ConnectedNode } from './ports/provider-link.ts';

const ask: StreamAsk = {
  model: 'm',
  kind: 'chat',
  region: null,
  maxCost: null,
  ceiling: null,
  worst: { inputToken: 1_000_000n },
};

function node(
  id: string,
  change: {
    loaded?: boolean;
    freeSlots?: number;
    rate?: string;
    cachedRate?: string;
    busyChats?: number;
    region?: string;
    model?: string;
    draining?: boolean;
    pools?: string[];
  } = {},
): ConnectedNode {
  const model = {
    name: change.model ?? 'm',
    digest: 'sha256:0',
    kind: 'chat' as const,
    quantisation: 'F32',
    contextTokens: 1,
    slots: 1,
    loaded: change.loaded ?? true,
    caps: { tokens: true, logprobs: true, promptLogprobs: true, seed: true, lora: false, embeddings: false },
    rates: {
      inputToken: change.rate ?? '5',
      ...(change.cachedRate === undefined ? {} : { cachedInputToken: change.cachedRate }),
    },
    rowsPerSecond: 1,
  };
  const offer = {
    region: change.region ?? 'eu',
    pools: change.pools ?? [],
    engines: [{ class: 'c', models: [model] }],
  } as unknown as Offer; // what a choice reads
  return {
    id,
    address: `0x${id}`,
    offer,
    freeSlots: change.freeSlots ?? 1,
    busyChats: change.busyChats ?? 0,
    draining: change.draining ?? false,
    leases: [],
    lastHeardMs: 0,
  };
}
const standing: Standing = {
  isBenched: (id) => id === 'bad',
  reputation: (id) => (id === 'new' ? 0.9 : 0.99),
  hasRun: (id) => id === 'proven',
};
const LIFTED = { maxCost: 10n ** 18n };
const first = (): number => 0;
const ids = (
  nodes: ConnectedNode[],
  more: Partial<StreamAsk> = {},
  below: (bound: number) => number = first,
): string[] => chooseStreamNodes({ ...ask, ...more }, nodes, standing, below).candidates.map(({ nodeId }) => nodeId);

describe('choosing nodes for a stream', () => {
  it('takes who refused requests of a moment ago, or is silent, after all others, however cheap and idle; and before nobody', () => {
    const nodes = ['a', 'b', 'c'].map((id) => node(id, { rate: '1', freeSlots: 64 }));
    nodes.push(node('dear', { rate: '2' }), node('cold', { loaded: false, rate: '1' }));
    const from = (resting: string[]): string[] =>
      chooseStreamNodes(ask, nodes, { ...standing, isResting: (id) => resting.includes(id) }, first).candidates.map(
        ({ nodeId }) => nodeId,
      );
    expect(from([])).toEqual(['a', 'b', 'c']);
    expect(from(['a', 'b', 'c'])).toEqual(['dear', 'cold', 'a']);
    expect(from(['a', 'b', 'c', 'dear', 'cold'])).toHaveLength(3);
  });

  it('takes warm and free first, then warm, then cold', () => {
    expect(ids([node('cold', { loaded: false }), node('busy', { freeSlots: 0 }), node('warm')])).toEqual([
      'warm',
      'busy',
      'cold',
    ]);
  });

  it('looks at two and takes the one with more room', () => {
    const draws = [0, 2];
    const below = (): number => draws.shift() ?? 0;
    expect(ids([node('a'), node('b', { freeSlots: 9 }), node('c', { freeSlots: 4 })], {}, below)[0]).toBe('c');
  });

  it('takes the cheaper of two that are warm and free, whoever is drawn, and no bait of room makes up for a price', () => {
    const dear = node('dear', { rate: '1000000000000', freeSlots: 1_000_000 });
    for (const draw of [0, 1])
      expect(ids([dear, node('cheap', { rate: '1' })], LIFTED, (bound) => draw % bound)[0]).toBe('cheap');
    expect(ids([dear, node('busy', { rate: '1', freeSlots: 0 })], LIFTED)).toEqual(['dear', 'busy']);
  });

  it('counts no more than a few of the free slots that a node says it has', () => {
    const draws = [0, 1];
    const below = (): number => draws.shift() ?? 0;
    expect(ids([node('a', { freeSlots: 9 }), node('boasts', { freeSlots: 1_000_000 })], {}, below)[0]).toBe('a');
  });

  const keeps = { cachedRate: '1', freeSlots: 64 };
  const known = { cachedOn: new Map([['b', 1_024]]) };
  const last = (bound: number): number => bound - 1;

  it('takes the node that holds the beginning of the prompt among equals, if it says that it keeps such things', () => {
    const nodes = (of: object): ConnectedNode[] => ['a', 'b', 'c'].map((id) => node(id, of));
    for (const draw of [first, last]) expect(ids(nodes(keeps), known, draw)[0]).toBe('b');
    expect(ids(nodes({ freeSlots: 64 }), known)[0]).toBe('a');
    expect(ids(nodes({ freeSlots: 64, cachedRate: '5' }), known)[0]).toBe('a');
  });

  it('takes another when the one that holds it is busier, dearer or fuller than the prefill is worth', () => {
    const beside = (of: object): string | undefined =>
      ids([node('a', keeps), node('b', { ...keeps, ...of })], known)[0];
    // 1,024 tokens are a quarter of a second, and five chats are as much.
    expect(beside({ busyChats: 3 })).toBe('b');
    expect(beside({ busyChats: 7 })).toBe('a');
    expect(beside({ freeSlots: 0 })).toBe('a');
    expect(beside({ loaded: false })).toBe('a');
    expect(beside({ rate: '6' })).toBe('a');
    expect(beside({ region: 'us' })).toBe('b');
    expect(ids([node('a', keeps), node('b', { ...keeps, region: 'us' })], { ...known, region: 'eu' })).toEqual(['a']);
    expect(ids([node('a', keeps), node('b', { ...keeps, rate: '9' })], { ...known, maxCost: 5n })).toEqual(['a']);
  });

  it('tries at most three', () => {
    expect(ids(['a', 'b', 'c', 'd', 'e'].map((id) => node(id)))).toHaveLength(3);
  });

  it('counts whom it leaves out, each by the first reason, and names the price that would do', () => {
    const choice = chooseStreamNodes(
      { ...ask, region: 'eu', maxCost: 3n },
      [
        node('x', { model: 'other' }),
        node('far', { region: 'us' }),
        node('bad'),
        node('leaving', { draining: true }),
        node('dear', { rate: '9' }),
        node('less', { rate: '7' }),
      ],
      standing,
      first,
    );
    expect(choice).toEqual({
      candidates: [],
      nodes: 6,
      eliminated: { model: 1, region: 1, benched: 1, draining: 1, price: 2 },
      cap: 3n,
      priceThatWouldDo: 7n,
    });
  });

  it('holds a request without a cap to the catalogue’s ceiling, or to what is usual: nobody else’s price is paid', () => {
    const nodes = [node('a'), node('b', { rate: '8' }), node('absurd', { rate: '1000000000000' })];
    expect(ids(nodes).sort()).toEqual(['a', 'b']);
    expect(ids(nodes, { ceiling: { inputToken: 6n } })).toEqual(['a']);
    expect(ids(nodes, { maxCost: 10n ** 12n })).toHaveLength(3);
    const above = chooseStreamNodes({ ...ask, ceiling: { inputToken: 4n } }, nodes, standing, first);
    expect(above).toMatchObject({ candidates: [], eliminated: { price: 3 }, cap: 4n, priceThatWouldDo: 5n });
  });

  it('leaves what a pool’s node does for nothing to the pool', () => {
    const nodes = [node('free', { rate: '0', pools: ['lab'] }), node('sold', { pools: ['lab'] })];
    const choice = chooseStreamNodes(ask, nodes, standing, first);
    expect([choice.candidates.map(({ nodeId }) => nodeId), choice.eliminated]).toEqual([['sold'], { pool: 1 }]);
  });

  it('takes only nodes that meet what is asked of the node itself', () => {
    const gpu = { model: 'T4', vramMib: 16_384, computeCapability: '7.5', driver: '550', milli: 1_000 };
    const having = (id: string, facts: Partial<Offer>): ConnectedNode => {
      const made = node(id);
      return { ...made, offer: { ...made.offer, isolation: 'none', gpus: [gpu], ...facts } };
    };
    const nodes = [
      having('old', {}),
      having('new', {}),
      having('walled', { isolation: 'gvisor' }),
      having('none', { gpus: [] }),
      having('two', { gpus: [gpu, gpu] }),
      having('large', { gpus: [{ ...gpu, model: 'A10', vramMib: 24_576 }] }),
    ];
    const fit = (needs: Partial<NodeNeeds>): string[] =>
      nodes
        .map((one) => one.id)
        .filter(
          (id) =>
            ids(
              nodes.filter((one) => one.id === id),
              { needs: { ...ANY_NODE, ...needs } },
            ).length > 0,
        );
    expect(fit({})).toHaveLength(6);
    expect(fit({ gpuModels: ['T4', 'L4'] })).toEqual(['old', 'new', 'walled', 'two']);
    expect(fit({ gpus: 2 })).toEqual(['two']);
    expect(fit({ vramMib: 20_000 })).toEqual(['large']);
    expect(fit({ isolation: 'container' })).toEqual(['walled']);
    expect(fit({ reputationFloor: 0.95, gpus: 1 })).toEqual(['old', 'walled', 'two', 'large']);
    expect(ids([node('a'), node('b', { region: 'us' }), node('c', { region: 'ap' })], { region: 'us,ap' })).toEqual([
      'b',
      'c',
    ]);
  });

  it('leaves out who has not the memory to load the model, by the catalogue before the offer', () => {
    const gpu = { model: 'T4', vramMib: 16_384, computeCapability: '7.5', driver: '550', milli: 500 };
    const having = (
      id: string,
      gpus: number,
      facts: Partial<OfferModel>,
      more: readonly object[] = [],
    ): ConnectedNode => {
      const made = node(id, { loaded: false });
      const model = { ...made.offer.engines[0]?.models[0], contextTokens: 1_000, slots: 2, ...facts } as OfferModel;
      const models = [model, ...more.map((one) => ({ ...model, ...one }))];
      const machine = { gpus: Array.from({ length: gpus }, () => gpu), memoryMib: 9_000 };
      return { ...made, offer: { ...made.offer, ...machine, engines: [{ class: 'c', models }] } };
    };
    const memory = { weightsMib: 8_000, cacheBytesPerToken: 2 ** 20 };
    const small = { memory: { weightsMib: 100, cacheBytesPerToken: 0 }, digest: 'small' };
    const chosen = (one: ConnectedNode, more: Partial<StreamAsk> = {}): string | undefined => {
      const { candidates, eliminated } = chooseStreamNodes({ ...ask, ...more }, [one], standing, first);
      if (candidates.length === 0) expect(eliminated).toEqual({ 'model-memory': 1 });
      return candidates[0]?.digest;
    };
    // 8,000 MiB and 2,000 tokens of a MiB each, and a tenth more: 11,000 MiB; a node lends half of each GPU.
    expect(chosen(having('none', 0, { memory }))).toBeUndefined();
    expect(chosen(having('one', 1, { memory }))).toBeUndefined();
    expect(chosen(having('two', 2, { memory }))).toBe('sha256:0');
    expect(chosen(having('unknown', 1, {}))).toBe('sha256:0');
    expect(chosen(having('warm', 1, { memory, loaded: true }))).toBe('sha256:0');
    expect(chosen(having('proven', 1, { memory }))).toBe('sha256:0');
    expect(chosen(having('short', 1, { memory: { ...memory, cacheTokens: 100 } }))).toBeUndefined();
    expect(chosen(having('short', 0, { memory: { ...memory, cacheTokens: 100 } }))).toBe('sha256:0');
    expect(chosen(having('twice', 1, { memory }, [small]))).toBe('small');
    const model = { name: 'm', quantisation: 'F32', memory: { weightsMib: 20_000, cacheBytesPerToken: 0 } };
    const listed = memoryListed({ v: 1, models: [model] } as unknown as Catalogue); // what of it is read
    expect(chosen(having('two', 2, { memory }), { listed })).toBeUndefined();
    expect(chosen(having('two', 2, {}), { listed })).toBeUndefined();
    expect(chosen(having('two', 2, { memory, quantisation: 'Q4' }), { listed })).toBe('sha256:0');
  });

  it('takes of cold nodes the one that loads soonest, and a warm one before all of them', () => {
    const cold = (id: string, facts: Partial<OfferModel>, rate = '5'): ConnectedNode => {
      const made = node(id, { loaded: false, rate });
      const model = { ...made.offer.engines[0]?.models[0], contextTokens: 1, slots: 1, ...facts } as OfferModel;
      return {
        ...made,
        offer: { ...made.offer, gpus: [], memoryMib: 99_000, engines: [{ class: 'c', models: [model] }] },
      };
    };
    const weighs = { memory: { weightsMib: 5_120, cacheBytesPerToken: 0 } };
    const nodes = [
      cold('unknown', {}),
      cold('slow', { loadS: 300 }),
      cold('weighs', weighs),
      cold('quick', { loadS: 2 }),
    ];
    expect(ids(nodes)).toEqual(['quick', 'weighs', 'unknown']);
    expect(ids([...nodes, node('warm', { freeSlots: 0 })])[0]).toBe('warm');
    // Ten seconds are worth the price once more, and eighteen are not.
    expect(ids([cold('dear', { loadS: 1 }, '10'), cold('late', { loadS: 10 })])[0]).toBe('late');
    expect(ids([cold('dear', { loadS: 1 }, '10'), cold('later', { loadS: 19 })])[0]).toBe('dear');
    // No weights come faster than a bus carries them: a claim of nothing is not believed.
    const giant = { loadS: 0, memory: { weightsMib: 80_000, cacheBytesPerToken: 0 } };
    expect(ids([cold('b', giant), cold('a', { loadS: 1 })])[0]).toBe('a');
  });

  it('spreads evenly over equals', () => {
    let seed = 1;
    const below = (bound: number): number => (seed = (seed * 48_271) % 2_147_483_647) % bound;
    const nodes = ['a', 'b', 'c', 'd'].map((id) => node(id));
    const counts = new Map<string, number>();
    for (let i = 0; i < 4_000; i += 1) {
      const id = ids(nodes, {}, below)[0] ?? '';
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    for (const count of counts.values()) expect(Math.abs(count - 1_000)).toBeLessThan(150);
  });
});
