import { expect, it } from '@jest/globals';
import { taskIds } from './task-ids.ts';

const NOW_MS = 1_763_000_000_000;

it('are distinct uuids of version 7, in the order in which they were asked for', () => {
  const ids = taskIds(5_000, NOW_MS);
  expect(new Set(ids).size).toBe(5_000);
  expect([...ids].sort()).toEqual(ids);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

it('of one instant are not those of another process, and of a later one stand behind', () => {
  const [first] = taskIds(1, NOW_MS);
  const [again] = taskIds(1, NOW_MS);
  const [later] = taskIds(1, NOW_MS + 1);
  expect(again).not.toBe(first);
  expect(String(later) > String(first)).toBe(true);
});
