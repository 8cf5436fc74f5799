import { expect, it } from '@jest/globals';
import type { StandingOffer } from '../ports/offer-book.ts';
import { quoteFineTune, type FineTuneQuote, type QuoteFineTunePorts } from './quote-fine-tune.ts';

const HOUR_MS = 3_600_000;
const LINE = JSON.stringify({
  messages: [
    { role: 'user', content: 'hello' },
    { role: 'assistant', content: 'hello yourself' },
  ],
});
const FILE = Buffer.from(`${LINE}\n`.repeat(20));

function trainer(node: string, region: string, trainingToken: string, awayMs?: number): StandingOffer {
  const model = {
    ...{ name: 'trainer/base', kind: 'fine-tune', digest: 'd', contextTokens: 64, rates: { trainingToken }, caps: {} },
    ...{ loaded: true, rowsPerSecond: 1, slots: 1, quantisation: '' },
  };
  const facts = { region, gpus: [], isolation: 'none', pools: [], cpuMilli: 1, memoryMib: 1 };
  const offer = { node, payout: node, ...facts, engines: [{ class: 'c', models: [model] }] };
  return { ...offer, ...(awayMs === undefined ? {} : { awayMs }) } as unknown as StandingOffer; // what a quote reads
}

function quoted(offers: readonly StandingOffer[], region: string): Promise<FineTuneQuote> {
  const ports = {
    files: { get: (_org: string, id: string) => Promise.resolve({ id, purpose: 'fine-tune' }) },
    objects: {
      size: () => Promise.resolve(FILE.length),
      read: async function* () {
        yield FILE;
      },
    },
    offers: { offers: () => Promise.resolve(offers) },
    bases: {
      all: () => [{ model: 'base', sha256: 'a'.repeat(64), contextTokens: 64, checkpointBytesMax: () => 1 }],
      count: () => Promise.resolve({ examples: 20, tokens: 1_000_000, trainedTokens: 500_000, initialState: '' }),
    },
    holdsModel: () => true,
    leases: { nodeRecords: () => Promise.resolve(new Map()) },
    link: { nodes: () => [{}] },
    catalogue: { v: 1, models: [] },
  } as unknown as QuoteFineTunePorts; // what a quote asks
  const body = { model: 'base', training_file: 'file-1', metadata: { region, verify: 'off' } };
  return quoteFineTune(ports, { orgId: 'o', body, nowMs: 0 }, new AbortController().signal);
}

it('counts those who may train it where it may be, and shows no price of who left, nor of who may not', async () => {
  const here = trainer('here', 'us', '700');
  const gone = trainer('gone', 'eu', '900000', 1_000 * HOUR_MS);
  const soon = trainer('soon', 'eu', '600', HOUR_MS);
  expect(await quoted([here, gone, soon], 'us')).toMatchObject({
    ...{ nodesOffering: 1, nodesAway: 0 },
    posted: { lowest: { trainingToken: 700n }, highest: { trainingToken: 700n } },
  });
  const where = await quoted([here, gone, soon], 'eu');
  expect(where).toMatchObject({ nodesOffering: 0, nodesAway: 1, posted: null });
  // Of who may come back in time, what it holds and what would be accepted; who left long ago is no price, there or elsewhere.
  const { cap, smallestCap } = await quoted([trainer('back', 'eu', '600')], 'eu');
  expect([where.cap, where.smallestCap]).toEqual([cap, smallestCap]);
});

it('refuses nobody because the one who may train it is away for a moment and asks more than those elsewhere', async () => {
  const here = trainer('here', 'us', '700');
  const soon = trainer('soon', 'eu', '900', 60_000);
  const { cap, nodesAway } = await quoted([here, soon], 'eu');
  expect([cap, nodesAway]).toEqual([(await quoted([trainer('back', 'eu', '900')], 'eu')).cap, 1]);
});
