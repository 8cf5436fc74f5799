import { expect, it } from '@jest/globals';
import { mostOfOneHolder, shardOf } from './shards.ts';

it('counts the nodes of the holder that has most, all its shards together, and of shards that nobody holds as of one', () => {
  const ids = Array.from({ length: 40 }, (_, n) => `n${n}`);
  const inShards = (...numbers: number[]): number => ids.filter((id) => numbers.includes(shardOf(id, 4))).length;
  expect(mostOfOneHolder(ids, [[0, 1, 2, 3]], 4)).toBe(40);
  expect(
    mostOfOneHolder(
      ids,
      [
        [0, 2],
        [1, 3],
      ],
      4,
    ),
  ).toBe(Math.max(inShards(0, 2), inShards(1, 3)));
  expect(mostOfOneHolder(ids, [[0]], 4)).toBe(inShards(1, 2, 3));
  expect(mostOfOneHolder(ids, [], 4)).toBe(40);
  expect(mostOfOneHolder([], [[0]], 4)).toBe(0);
});
