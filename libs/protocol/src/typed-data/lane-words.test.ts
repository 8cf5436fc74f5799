import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import { LANE_MAX, packLanes, unpackLanes } from './lane-words.ts';

const vectors = JSON.parse(readFileSync(new URL('../../../../test/vectors/lanes.json', import.meta.url), 'utf8')) as {
  readonly cases: readonly { indices: number[]; amounts: string[]; words: string[] }[];
};

it('packs and unpacks the shared vectors', () => {
  for (const { indices, amounts, words } of vectors.cases) {
    const listed = new Map(indices.map((index, i) => [index, BigInt(amounts[i] ?? '0')]));
    expect(packLanes(listed)).toEqual(words.map(BigInt));
    expect(unpackLanes(words.map(BigInt))).toEqual(new Map([...listed].sort(([a], [b]) => a - b)));
  }
});

it('loses nothing between packing and unpacking, and words rise', () => {
  const entry = fc.tuple(fc.nat(4_095), fc.bigInt({ min: 1n, max: LANE_MAX }));
  fc.assert(
    fc.property(fc.array(entry), (entries) => {
      const amounts = new Map(entries);
      const words = packLanes(amounts);
      expect(words.every((word, i) => i === 0 || word >> 240n > (words[i - 1] ?? 0n) >> 240n)).toBe(true);
      expect([...unpackLanes(words)]).toEqual([...amounts].sort(([a], [b]) => a - b));
    }),
  );
});

it('refuses an index or an amount that the contract has no room for', () => {
  expect(() => packLanes(new Map([[4_096, 1n]]))).toThrow('LANE_INDEX');
  expect(() => packLanes(new Map([[0, LANE_MAX + 1n]]))).toThrow('LANE_AMOUNT');
  expect(() => packLanes(new Map([[0, -1n]]))).toThrow('LANE_AMOUNT');
});
