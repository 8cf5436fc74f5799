import { expect, it } from '@jest/globals';
import { StreamPace } from './stream-pace.ts';

it('says when the first of the requests under way is over, from how long such requests took', () => {
  const pace = new StreamPace();
  expect(pace.freeInS('m', 3)).toBeNull();
  for (let i = 0; i < 60; i += 1) pace.note('m', 12);
  expect([pace.freeInS('m', 1), pace.freeInS('m', 4), pace.freeInS('m', 0)]).toEqual([12, 3, 12]);
  for (let i = 0; i < 60; i += 1) pace.note('m', 900);
  expect([pace.freeInS('m', 1), pace.freeInS('other', 1)]).toEqual([60, null]);
});
