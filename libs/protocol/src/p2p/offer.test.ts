import { describe, expect, it } from '@jest/globals';
import { GPU, OFFER } from './offer.fixture.ts';
import { Offer } from './offer.ts';

const MODEL = {
  ...{ name: 'm', digest: `sha256:${'1'.repeat(64)}`, kind: 'chat', quantisation: 'Q8_0', contextTokens: 64, slots: 1 },
  caps: { tokens: true, logprobs: true, promptLogprobs: true, seed: true, lora: false, embeddings: false },
  ...{ loaded: false, rates: { inputToken: '1' }, rowsPerSecond: 1 },
};
const offered = (more: object): object => ({ engines: [{ class: 'c', models: [{ ...MODEL, ...more }] }] });
const MEMORY = { weightsMib: 2, cacheBytesPerToken: 2_560 };

describe('an offer', () => {
  it('is read as it is', () => {
    expect(Offer.safeParse(OFFER).success).toBe(true);
  });

  it('may say of a model what it takes of memory, and is the same offer where it does not', () => {
    const offering = (model: object): object => ({ ...OFFER, engines: [{ class: 'c', models: [model] }] });
    const read = (model: object): unknown => Offer.parse(offering(model)).engines[0]?.models[0];
    // What is signed is the offer as it is read: nothing may be added to one of a node that does not know these fields.
    expect(Object.keys(read(MODEL) as object).sort()).toEqual(Object.keys(MODEL).sort());
    expect(read({ ...MODEL, memory: MEMORY })).toEqual({ ...MODEL, memory: MEMORY });
    for (const wrong of [
      { weightsMib: 1e12 },
      { weightsMib: -1 },
      { weightsMib: 0 },
      { weightsMib: Number.NaN },
      { weightsMib: 1.5 },
      { cacheBytesPerToken: -1 },
      { cacheBytesPerToken: Number.POSITIVE_INFINITY },
      { cacheTokens: 0 },
      { cacheTokens: 2 ** 40 },
    ])
      expect(Offer.safeParse(offering({ ...MODEL, memory: { ...MEMORY, ...wrong } })).success).toBe(false);
    expect(Offer.safeParse(offering({ ...MODEL, memory: 2 })).success).toBe(false);
    expect(read({ ...MODEL, loadS: 0.5 })).toEqual({ ...MODEL, loadS: 0.5 });
    for (const loadS of [-1, 3_601, Number.NaN, Number.POSITIVE_INFINITY, '5', null])
      expect(Offer.safeParse(offering({ ...MODEL, loadS })).success).toBe(false);
  });

  it('is read without what a newer node says beside it, wherever that stands', () => {
    const newer = { later: { deep: [1] } };
    const memory = { ...MEMORY, ...newer };
    const model = { ...MODEL, ...newer, caps: { ...MODEL.caps, vision: true }, memory };
    const told = {
      ...OFFER,
      ...newer,
      gpus: [{ ...GPU, ...newer }],
      engines: [{ class: 'c', models: [model], ...newer }],
    };
    const known = { ...OFFER, engines: [{ class: 'c', models: [{ ...MODEL, memory: MEMORY }] }] };
    expect(Offer.parse(told)).toEqual(known);
    // A price that is not understood is none.
    expect(Offer.safeParse({ ...OFFER, ...offered({ rates: { inputToken: '1', dream: '1' } }) }).success).toBe(false);
  });

  it.each([
    ['a negative GPU', { gpus: [{ ...GPU, milli: -1 }] }, 'gpus.0.milli'],
    ['a part of a GPU that is no number', { gpus: [{ ...GPU, milli: Number.NaN }] }, 'gpus.0.milli'],
    ['a second GPU with no number of memory', { gpus: [GPU, { ...GPU, vramMib: Number.NaN }] }, 'gpus.1.vramMib'],
    ['less than no GPU memory', { gpus: [{ ...GPU, vramMib: -1 }] }, 'gpus.0.vramMib'],
    ['a negative price', offered({ rates: { inputToken: '-1' } }), 'engines.0.models.0.rates.inputToken'],
    ['a price that is no number', offered({ rates: { inputToken: 'NaN' } }), 'engines.0.models.0.rates.inputToken'],
    [
      'a price that is no text',
      offered({ rates: { outputToken: Number.NaN } }),
      'engines.0.models.0.rates.outputToken',
    ],
    ['a price of a part', offered({ rates: { inputToken: '0.5' } }), 'engines.0.models.0.rates.inputToken'],
    ['more than a whole GPU', { gpus: [{ ...GPU, milli: 1_001 }] }, 'gpus.0.milli'],
    ['memory that is no number', { memoryMib: Number.NaN }, 'memoryMib'],
    ['endless memory', { memoryMib: Number.POSITIVE_INFINITY }, 'memoryMib'],
    ['more memory than any machine has', { memoryMib: 9e15 }, 'memoryMib'],
    ['more of a GPU than any has', { gpus: [{ ...GPU, vramMib: 9e15 }] }, 'gpus.0.vramMib'],
    ['more processors than any machine has', { cpuMilli: 9e15 }, 'cpuMilli'],
    ['more disk than any machine has', { diskMib: 9e15 }, 'diskMib'],
    ['a context that nobody reads', offered({ contextTokens: 9e15 }), 'engines.0.models.0.contextTokens'],
    ['rows that no machine does', offered({ rowsPerSecond: 1e300 }), 'engines.0.models.0.rowsPerSecond'],
    ['less than no processor', { cpuMilli: -8_000 }, 'cpuMilli'],
    ['half a megabyte', { diskMib: 0.5 }, 'diskMib'],
    ['more GPUs than any machine has', { gpus: Array.from({ length: 65 }, () => GPU) }, 'gpus'],
    ['a count in place of GPUs', { gpus: 1_000_000_000 }, 'gpus'],
  ])('of %s is impossible, and is refused with the field', (_what, wrong, field) => {
    const parsed = Offer.safeParse({ ...OFFER, ...wrong });
    expect(parsed.error?.issues.map(({ path }) => path.join('.'))).toEqual([field]);
  });
});
