import { expect, it } from '@jest/globals';
import { UNSIGNED_KEPT_MS, UNSIGNED_LEASES_MAX, UnsignedWork } from './unsigned-work.ts';

const lease = (task: string, amount: bigint, coordinator = 'c', atMs = 0) => ({ task, amount, coordinator, atMs });

it('adds up what one coordinator has not signed, once a task, and forgets it with its signature', () => {
  const work = new UnsignedWork([lease('a', 3n), lease('b', 5n), lease('x', 9n, 'other')]);
  work.add(lease('a', 4n));
  work.add(lease('a', 1n));
  work.add(lease('free', 0n));
  expect([work.owed('c'), work.count('c'), work.owed('other'), work.owed('nobody')]).toEqual([9n, 2, 9n, 0n]);
  expect(work.owed('c', new Set(['b']))).toBe(4n);
  expect([work.signed('b'), work.signed('b')]).toEqual([true, false]);
  expect(work.owed('c')).toBe(4n);
  expect(new UnsignedWork(work.all).owed('c')).toBe(4n);
});

it('forgets after a week, so that one verdict against a node does not cost it a coordinator for ever', () => {
  const work = new UnsignedWork([lease('old', 3n), lease('young', 5n, 'c', 1)]);
  expect(work.forget(UNSIGNED_KEPT_MS)).toBe(true);
  expect(work.all.map(({ task }) => task)).toEqual(['young']);
  expect(work.forget(UNSIGNED_KEPT_MS)).toBe(false);
});

it('remembers so many leases of one coordinator and no more, the newest', () => {
  const work = new UnsignedWork([lease('other', 1n, 'd')]);
  for (let n = 0; n < UNSIGNED_LEASES_MAX; n += 1) work.add(lease(`t${n}`, 1n));
  work.add(lease('last', 1n));
  expect([work.count('c'), work.find('t0'), work.find('t1')?.amount]).toEqual([UNSIGNED_LEASES_MAX, undefined, 1n]);
  expect([work.find('last')?.amount, work.count('d')]).toEqual([1n, 1]);
});
