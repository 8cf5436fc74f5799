import { expect, it } from '@jest/globals';
import { isTested, SECOND_LOOK_ONE_IN, SECOND_LOOK_ROWS_MAX, secondLook } from './second-look.ts';

const seedOf = (i: number): Uint8Array => Uint8Array.from({ length: 32 }, (_, at) => (i >> (8 * (at % 4))) & 255);
const SEEDS = 4_096;

it('looks twice at about one lease in sixteen, and tests about one auditor in sixteen, independently', () => {
  const drawn = Array.from({ length: 20 }, (_, i) => i + 5);
  let [twice, tested, both] = [0, 0, 0];
  for (let i = 0; i < SEEDS; i += 1) {
    const rows = secondLook(seedOf(i), drawn);
    if (rows.length > 0) expect(rows).toEqual(drawn.slice(0, SECOND_LOOK_ROWS_MAX));
    const isTwice = rows.length > 0;
    const isOnTest = isTested(seedOf(i), 'auditor');
    twice += Number(isTwice);
    tested += Number(isOnTest);
    both += Number(isTwice && isOnTest);
  }
  for (const hits of [twice, tested]) expect(Math.abs(hits - SEEDS / SECOND_LOOK_ONE_IN)).toBeLessThan(60);
  expect(both).toBeLessThan(40);
});

it('follows from the seed and the auditor alone', () => {
  expect(secondLook(seedOf(7), [3])).toEqual(secondLook(seedOf(7), [3]));
  const one = Array.from({ length: 64 }, (_, i) => isTested(seedOf(i), 'a'));
  const other = Array.from({ length: 64 }, (_, i) => isTested(seedOf(i), 'b'));
  expect(one).not.toEqual(other);
});
