import { expect, it } from '@jest/globals';
import type { Offer } from '@freehold/protocol';
import { BatchReading, type Planned } from './read-batch.ts';
import { isPossible } from './refuse-impossible.ts';

const GPU = { model: 'H100', vramMib: 81_920, computeCapability: '9.0', driver: '550', milli: 1_000 };
const LINE = JSON.stringify({
  custom_id: 'a',
  method: 'POST',
  url: '/v1/chat/completions',
  body: { model: 'open', messages: [{ role: 'user', content: 'hello' }], max_tokens: 10 },
});

function offer(node: string, rate: string, gpus: Offer['gpus'] = []): Offer {
  const rates = { inputToken: rate, outputToken: rate };
  const model = {
    name: 'open',
    digest: 'd',
    kind: 'chat',
    contextTokens: 64,
    rates,
    loaded: true,
    rowsPerSecond: 1,
    caps: {},
  };
  const facts = { region: 'eu', isolation: 'none', pools: [], cpuMilli: 1, memoryMib: 1 };
  return { node, payout: node, gpus, ...facts, engines: [{ class: 'c', models: [model] }] } as unknown as Offer; // what a price is made of
}

it('reads the catalogue once for a job, however many offers stand', async () => {
  let reads = 0;
  const catalogue = {
    v: 1 as const,
    get models() {
      reads += 1;
      return [];
    },
  };
  const offers = Array.from({ length: 20 }, (_, i) => offer(`n${i}`, '9'));
  const batch = { kind: 'batch', endpoint: '/v1/chat/completions', verify: 'off', region: null, metadata: {} } as const;
  const plan = { model: 'open', tuned: null, rateCaps: { inputToken: 1n, outputToken: 1n } };
  expect(await isPossible(catalogue, offers, { ...batch, plan, windowMs: 3_600_000 })).toBe(false);
  expect(reads).toBe(1);
});

it('takes as usual prices only those of nodes that may run it, one of each node', async () => {
  const bait = Array.from({ length: 9 }, (_, i) => offer('bait', String(10 ** 12 + i)).engines).flat();
  const offers = [
    { ...offer('bait', '1'), engines: bait },
    ...['a', 'b', 'c'].map((node) => offer(node, '1000000')),
    offer('gpu', '1000000000', [GPU]),
  ];
  const planned = async (metadata: Record<string, string>): Promise<[Planned, boolean]> => {
    const batch = {
      orgId: 'o',
      endpoint: '/v1/chat/completions',
      verify: 'off',
      region: null,
      metadata,
      windowMs: 3_600_000,
    } as const;
    const ports = {
      catalogue: { v: 1 as const, models: [] },
      holdsModel: () => false,
      fineTunes: { model: () => Promise.resolve(null) },
    };
    const reading = new BatchReading(batch, offers, ports, () => Promise.resolve(true));
    await reading.read(
      (async function* () {
        yield Buffer.from(LINE);
      })(),
    );
    const plan = await reading.plan();
    return [
      plan,
      plan.ok &&
        (await isPossible({ v: 1, models: [] }, offers, {
          ...batch,
          kind: 'batch',
          plan: plan.plan,
        })),
    ];
  };
  expect(await planned({})).toMatchObject([{ plan: { rateCaps: { inputToken: 1_000_000n } } }, true]);
  expect(await planned({ gpu_model: 'H100' })).toMatchObject([
    { plan: { rateCaps: { inputToken: 1_000_000_000n } } },
    true,
  ]);
});

it('reads a batch for what its endpoint does, though a stranger offers its model to do something else', async () => {
  const vectors = (node: string, kind: string): Offer => {
    const model = {
      name: 'vectors',
      kind,
      contextTokens: 64,
      rates: { embeddingToken: '5', inputToken: '9' },
      caps: {},
    };
    return { ...offer(node, '1'), engines: [{ class: 'c', models: [model] }] } as unknown as Offer; // what is read of it
  };
  const batch = {
    orgId: 'o',
    endpoint: '/v1/embeddings',
    verify: 'off',
    region: null,
    metadata: {},
    windowMs: 1,
  } as const;
  const ports = {
    catalogue: { v: 1 as const, models: [] },
    holdsModel: () => false,
    fineTunes: { model: () => Promise.resolve(null) },
  };
  const offers = [vectors('stranger', 'chat'), vectors('honest', 'embedding')];
  const reading = new BatchReading(batch, offers, ports, () => Promise.resolve(true));
  const [url, body] = [batch.endpoint, { model: 'vectors', input: 'hello' }];
  await reading.read(
    (async function* () {
      yield Buffer.from(JSON.stringify({ custom_id: 'a', method: 'POST', url, body }));
    })(),
  );
  expect(reading.faults).toEqual([]);
  expect(await reading.plan()).toMatchObject({ ok: true, plan: { rateCaps: { embeddingToken: 5n } } });
});
