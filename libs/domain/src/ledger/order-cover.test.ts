import { expect, it } from '@jest/globals';
import { coveredBy, type PayingOrder } from './order-cover.ts';

const order = (state: PayingOrder['state'], closeEpoch: bigint | null = null, spent = 0n): PayingOrder => ({
  ...{ state, closeEpoch, spent },
  reserved: 100n,
});

it('everything is covered while no order closes, also where one is gone with its block', () => {
  expect(coveredBy([], 3n)).toBeNull();
  expect(coveredBy([order('open', null, 40n), order('gone')], 3n)).toBeNull();
});

it('a closing order covers work until the epoch before its last is over, a refunded one nothing', () => {
  expect(coveredBy([order('closing', 4n, 40n)], 3n)).toBe(60n);
  expect(coveredBy([order('closing', 4n, 40n)], 4n)).toBe(0n);
  expect(coveredBy([order('refunded', 2n)], 3n)).toBe(0n);
});

it('beside a closing order the open ones cover what is left of them', () => {
  expect(coveredBy([order('closing', 3n), order('open', null, 90n), order('open')], 3n)).toBe(110n);
});
