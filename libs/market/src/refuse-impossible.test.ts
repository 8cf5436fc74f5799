import { describe, expect, it } from '@jest/globals';
import type { Catalogue } from '@freehold/protocol';
import { NODES_AT_ONCE } from './in-slices.ts';
import { knownModel } from './known-models.ts';
import { pricedAs } from './max-cost.ts';
import type { NodeRecord } from './ports/lease-store.ts';
import { OFFERS_READ_MAX, type StandingOffer } from './ports/offer-book.ts';
import { quoteJob, type QuoteJobPorts } from './quote-job.ts';
import { whyImpossible, type PlannedJob, type RefuseImpossiblePorts } from './refuse-impossible.ts';
import { turnsWith } from './turns.fixture.ts';

/** As many as are read at once, and none left out. */
const NODES = OFFERS_READ_MAX - 1;
const HOUR_MS = 3_600_000;
const CATALOGUE: Catalogue = { v: 1, models: [] };
const WORST = { inputToken: 9_000_000n, outputToken: 9_000_000n };

/** What was read of all offers by who looks into them, so that a test counts work and no time. */
const looks = { made: 0 };

function offer(no: number, over: object = {}): StandingOffer {
  const rates = { inputToken: String(1_000 + ((no * 7) % 4_999)), outputToken: String(2_000 + ((no * 13) % 4_999)) };
  const model = {
    ...{ name: 'm', kind: 'chat', digest: 'd', contextTokens: 64, rates, caps: {}, loaded: true },
    ...{ rowsPerSecond: 10, slots: 1, quantisation: '' },
  };
  const made = {
    ...{ node: `n${no}`, payout: `p${no}`, region: ['eu', 'us', 'sa'][no % 3], pools: [], cpuMilli: 1, memoryMib: 1 },
    isolation: no % 2 === 0 ? 'none' : 'gvisor',
    gpus: [{ model: ['A10', 'T4', 'L4'][(no >> 3) % 3], vramMib: 16_384, milli: 1_000 }],
    engines: [{ class: 'c', models: [model] }],
    ...over,
  };
  return new Proxy(made, {
    get(of, key) {
      if (key === 'isolation' || key === 'engines') looks.made += 1;
      return of[key as keyof typeof of];
    },
  }) as unknown as StandingOffer; // what a refusal reads
}

function portsOf(offers: readonly StandingOffer[]): RefuseImpossiblePorts {
  const nothing = { rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, rowsInFlight: 0, leasesInFlight: 0 };
  const records = new Map<string, NodeRecord>(
    offers.map(({ node: nodeId, payout }) => [
      nodeId,
      { nodeId, payout, ...nothing, benchedForMs: 0, benchedWhy: null, speed: {} },
    ]),
  );
  return {
    leases: { nodeRecords: () => Promise.resolve(records) },
    link: { nodes: () => [{}] as never }, // somebody is there
    catalogue: CATALOGUE,
  };
}

function jobOf(offers: readonly StandingOffer[], metadata: Record<string, string>): PlannedJob {
  const model = knownModel('m', CATALOGUE, offers);
  if (model === null) throw new Error('nobody offers it');
  const rateCaps = { inputToken: 1_010n, outputToken: 2_020n };
  return {
    ...{
      kind: 'batch',
      endpoint: '/v1/chat/completions',
      region: metadata['region'] ?? null,
      verify: 'spot',
      metadata,
    },
    plan: { model: 'm', tuned: null, rateCaps },
    ...{ windowMs: HOUR_MS, completionWindow: '1h', priced: pricedAs(model, WORST, 20_000n, HOUR_MS) },
  };
}

describe('over thousands of offers', () => {
  /** Who prices an offer, or makes a node of it, reads a few of its fields. */
  const READ_MAX = 6 * NODES_AT_ONCE;

  it('a refusal with all that it proposes, priced, leaves the process to others every few hundred of them', async () => {
    const offers = Array.from({ length: NODES }, (_, no) => offer(no, no % 5 === 0 ? { awayMs: 99 * HOUR_MS } : {}));
    const job = jobOf(offers, { region: 'eu', gpus: '2', gpu_model: 'A10', isolation: 'gvisor' });
    const ports = portsOf(offers);
    let why: unknown;
    const { turns, most } = await turnsWith(
      () => looks.made,
      async () => (why = await whyImpossible(ports, offers, job)),
    );
    expect(why).toMatchObject({ message: expect.stringMatching(/ask with metadata\.max_cost .*; or /) });
    expect(turns).toBeGreaterThan((2 * NODES) / NODES_AT_ONCE);
    expect(most).toBeLessThan(READ_MAX);
  });

  it('so does a quote', async () => {
    const offers = Array.from({ length: NODES }, (_, no) => offer(no));
    const ports = {
      ...portsOf(offers),
      offers: { offers: () => Promise.resolve(offers) },
      holdsModel: () => true,
      fineTunes: { model: () => Promise.resolve(null) },
      queue: { outlook: () => Promise.resolve({ pace: { nodeIds: [] } }) },
    } as unknown as QuoteJobPorts; // what a quote of so many rows asks
    const needs = {
      gpus: 0,
      gpuMilli: 0,
      vramMib: 0,
      gpuModels: ['A10'],
      isolation: 'none',
      reputationFloor: 0,
    } as const;
    const terms = {
      verify: 'spot',
      maxCost: null,
      region: 'eu',
      priority: 0,
      needs,
      gang: null,
      waits: false,
    } as const;
    const rows = { by: 'rows', model: 'm', rows: 10, inputTokens: 10, outputTokens: 10 } as const;
    const asked = {
      terms: { ...terms, deadlineInMs: HOUR_MS },
      deadlineInMs: HOUR_MS,
      metadata: {},
      completionWindow: '1h',
    };
    const { turns, most } = await turnsWith(
      () => looks.made,
      () => quoteJob(ports, 'o', rows, asked),
    );
    expect(turns).toBeGreaterThan((2 * NODES) / NODES_AT_ONCE);
    expect(most).toBeLessThan(READ_MAX);
  });
});

it('is no answer where not all offers were read: one that is here may be among the others', async () => {
  const offers = Array.from({ length: OFFERS_READ_MAX }, (_, no) => offer(no));
  const why = (of: readonly StandingOffer[]): Promise<unknown> =>
    whyImpossible(portsOf(of), of, jobOf(of, { gpus: '2' }));
  expect(await why(offers)).toBeNull();
  expect(await why(offers.slice(1))).toMatchObject({ code: 'no_node_fits' });
});

describe('of nodes that left, a refusal', () => {
  it('names the time of the last that could run it, whoever else left later', async () => {
    const gpus = [1, 2].map(() => ({ model: 'A10', vramMib: 16_384, milli: 1_000 }));
    const offers = [
      offer(1),
      offer(2, { gpus, awayMs: 90 * HOUR_MS }),
      offer(3, { gpus, awayMs: 30 * HOUR_MS, region: 'eu' }),
      offer(4, { awayMs: 3 * HOUR_MS }),
    ];
    const job = {
      ...jobOf(offers, { gpus: '2' }),
      plan: { model: 'm', tuned: null, rateCaps: { inputToken: 99_999n } },
    };
    const why = await whyImpossible(portsOf(offers), offers, job);
    expect(why?.message).toContain(
      '2 more offered what it asks, and are away for longer than it would wait: of such nodes the last was here 30 h ago.',
    );
  });
});
