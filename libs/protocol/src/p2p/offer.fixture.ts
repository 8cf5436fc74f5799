import type { Offer } from './offer.ts';

export const GPU = { model: 'T4', vramMib: 16_384, computeCapability: '7.5', driver: '550', milli: 1_000 };

/** The least that a node may offer: a machine, and no engine. */
export const OFFER: Offer = {
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
