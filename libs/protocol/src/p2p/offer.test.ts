import { describe, expect, it } from '@jest/globals';
import { Offer } from './offer.ts';

const GPU = { model: 'T4', vramMib: 16_384, computeCapability: '7.5', driver: '550', milli: 1_000 };
const OFFER = {
  v: 1,
  node: '16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ',
  address: `0x${'11'.repeat(20)}`,
  payout: `0x${'11'.repeat(20)}`,
  seq: 1,
  expiresAt: 2_000_000_000,
  region: 'eu',
  isolation: 'none',
  gpus: [GPU],
  cpuMilli: 8_000,
  memoryMib: 1_024,
  diskMib: 1_024,
  engines: [],
  pools: [],
  noticeS: 0,
  exposureMax: '1',
  chatSharePercent: 50,
};

describe('an offer', () => {
  it('is read as it is', () => {
    expect(Offer.safeParse(OFFER).success).toBe(true);
  });

  it.each([
    ['a negative GPU', { gpus: [{ ...GPU, milli: -1 }] }, 'gpus.0.milli'],
    ['more than a whole GPU', { gpus: [{ ...GPU, milli: 1_001 }] }, 'gpus.0.milli'],
    ['memory that is no number', { memoryMib: Number.NaN }, 'memoryMib'],
    ['endless memory', { memoryMib: Number.POSITIVE_INFINITY }, 'memoryMib'],
    ['less than no processor', { cpuMilli: -8_000 }, 'cpuMilli'],
    ['half a megabyte', { diskMib: 0.5 }, 'diskMib'],
    ['more GPUs than any machine has', { gpus: Array.from({ length: 65 }, () => GPU) }, 'gpus'],
    ['a count in place of GPUs', { gpus: 1_000_000_000 }, 'gpus'],
  ])('of %s is impossible, and is refused with the field', (_what, wrong, field) => {
    const parsed = Offer.safeParse({ ...OFFER, ...wrong });
    expect(parsed.error?.issues.map(({ path }) => path.join('.'))).toEqual([field]);
  });
});
