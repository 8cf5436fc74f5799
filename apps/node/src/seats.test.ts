import { expect, it } from '@jest/globals';
import { WrappedEngine, type Engine, type EngineModel } from '@freehold/market';
import { OfferModel } from '@freehold/protocol';
import { Seats } from './seats.ts';

const CAPS = { tokens: true, logprobs: false, promptLogprobs: false, seed: false, lora: false, embeddings: true };
const model = (name: string, memory?: EngineModel['memory']): EngineModel => ({
  ...{ name, digest: `declared:${name}`, kind: 'embedding', quantisation: 'F32', contextTokens: 64, slots: 1 },
  ...{ caps: CAPS, memory },
});

class Described extends WrappedEngine {
  readonly #models: readonly EngineModel[];
  constructor(models: readonly EngineModel[]) {
    super({} as Engine);
    this.#models = models;
  }
  override async describe(): ReturnType<Engine['describe']> {
    return { engine: 'e', version: '1', engineClass: 'e/1', models: this.#models };
  }
  override async loaded(): Promise<ReadonlySet<string> | null> {
    return null;
  }
}

it('offers what its engines say of memory and what loads took, and of nonsense nothing: the rest of the offer stands', async () => {
  const known = { weightsMib: 100, cacheBytesPerToken: 2_048, cacheTokens: 64 };
  const engine = new Described([
    model('known', known),
    model('silent'),
    model('absurd', { weightsMib: 1e12, cacheBytesPerToken: 0 }),
    model('negative', { weightsMib: -1, cacheBytesPerToken: 0 }),
    model('no-number', { weightsMib: Number.NaN, cacheBytesPerToken: 0 }),
  ]);
  const setting = { rates: { embeddingToken: 5n }, slots: null, chatSharePercent: 50, model: null };
  const seats = await Seats.describe([engine], { ...setting, onChange: () => undefined });
  const [offered] = seats.offerEngines({
    rowsPerSecond: () => 1,
    loadS: (digest) => (digest === 'declared:known' ? 12.5 : undefined),
  });
  const models = offered?.models.map((one) => OfferModel.parse(one)) ?? [];
  expect(models.map(({ name, memory, loadS }) => [name, memory, loadS])).toEqual([
    ['known', known, 12.5],
    ...['silent', 'absurd', 'negative', 'no-number'].map((name) => [name, undefined, undefined]),
  ]);
  expect(models.filter((one) => 'memory' in one || 'loadS' in one)).toHaveLength(1);
});
