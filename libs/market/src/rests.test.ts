import { expect, it } from '@jest/globals';
import { NODES_MAX, Rests } from './rests.ts';

it('rests last twice as long each time, up to a maximum, until a node does well', () => {
  let nowMs = 0;
  const rests = new Rests({ nowMs: () => nowMs }, 1_000, 3_000);
  const lasts = (): number => {
    rests.rest('n');
    return (rests.ends().get('n') ?? 0) - nowMs;
  };
  expect([lasts(), lasts(), lasts()]).toEqual([1_000, 2_000, 3_000]);
  nowMs = 3_000;
  expect(rests.isResting('n')).toBe(false);
  rests.forget('n');
  expect(lasts()).toBe(1_000);
  expect(rests.isResting('n')).toBe(true);
});

it('strangers with ever new keys are not remembered for ever', () => {
  const rests = new Rests({ nowMs: () => 0 }, 1_000, 3_000);
  for (let no = 0; no <= NODES_MAX; no += 1) rests.rest(`n${no}`);
  expect(rests.ends().size).toBe(NODES_MAX);
  expect([rests.isResting('n0'), rests.isResting(`n${NODES_MAX}`)]).toEqual([false, true]);
});
