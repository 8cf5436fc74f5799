import { expect, it } from '@jest/globals';
import { batchId } from './batch-ids.ts';

it('batches of later milliseconds sort behind those before them, and two of one millisecond differ', () => {
  const drawn = [255, 0, 1];
  const entropy = { bytes: (count: number) => new Uint8Array(count).fill(drawn.shift() ?? 7) };
  const times = [Date.UTC(2026, 0, 1), Date.UTC(2026, 0, 1) + 1, Date.UTC(2126, 0, 1)];
  const ids = times.map((nowMs) => batchId(entropy, nowMs));
  expect([...ids].sort()).toEqual(ids);
  expect(batchId(entropy, 5)).toBe('batch_0000000000050707070707070707');
  drawn.push(8);
  expect(batchId(entropy, 5)).not.toBe('batch_0000000000050707070707070707');
  expect(ids.every((id) => /^batch_[0-9a-f]{28}$/.test(id))).toBe(true);
});
