import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { batchOf, type BatchSchedule } from './batch-schedule.ts';

const schedules = fc.record({
  dataHash: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  seed: fc.nat({ max: 2 ** 32 - 1 }),
  examples: fc.integer({ min: 1, max: 60 }),
  batchExamples: fc.integer({ min: 1, max: 20 }),
});
const bytes = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);

describe('the batch of a step', () => {
  it('depends on data hash, seed and step alone, whatever was asked before', () => {
    fc.assert(
      fc.property(schedules, fc.array(fc.nat({ max: 200 }), { minLength: 1, maxLength: 8 }), (schedule, steps) => {
        const inOrder = steps.map((step) => batchOf(schedule, step));
        const backwards = [...steps].reverse().map((step) => batchOf({ ...schedule }, step));
        expect(backwards.reverse()).toEqual(inOrder);
      }),
    );
  });

  it('shows every example once per epoch', () => {
    fc.assert(
      fc.property(schedules, fc.nat({ max: 5 }), (schedule, epoch) => {
        const { examples, batchExamples } = schedule;
        const seen: number[] = [];
        const [from, to] = [epoch * examples, (epoch + 1) * examples];
        for (let step = Math.floor(from / batchExamples); step * batchExamples < to; step += 1)
          batchOf(schedule, step).forEach((example, i) => {
            const at = step * batchExamples + i;
            if (at >= from && at < to) seen.push(example);
          });
        expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: examples }, (_, i) => i));
      }),
    );
  });

  it('changes with the seed and with one bit of the data hash', () => {
    const schedule: BatchSchedule = { dataHash: bytes(7), seed: 1, examples: 50, batchExamples: 16 };
    const other = bytes(7);
    other[31] = 6;
    expect(batchOf({ ...schedule, seed: 2 }, 0)).not.toEqual(batchOf(schedule, 0));
    expect(batchOf({ ...schedule, dataHash: other }, 0)).not.toEqual(batchOf(schedule, 0));
    expect(batchOf(schedule, 5)).not.toEqual(batchOf(schedule, 0));
  });

  it('is the one that every runtime repeats', () => {
    const vectors = JSON.parse(
      readFileSync(new URL('../../../../test/vectors/batch-schedule.json', import.meta.url), 'utf8'),
    ) as { dataHash: string; seed: number; examples: number; batchExamples: number; step: number; batch: number[] }[];
    expect(vectors.length).toBeGreaterThan(3);
    for (const { dataHash, step, batch, ...rest } of vectors)
      expect(batchOf({ ...rest, dataHash: Uint8Array.from(Buffer.from(dataHash, 'hex')) }, step)).toEqual(batch);
  });

  it('refuses an empty file, an empty batch and a step before the first', () => {
    const schedule: BatchSchedule = { dataHash: bytes(1), seed: 1, examples: 5, batchExamples: 2 };
    expect(() => batchOf({ ...schedule, examples: 0 }, 0)).toThrow('BATCH_COUNT');
    expect(() => batchOf({ ...schedule, batchExamples: 0 }, 0)).toThrow('BATCH_COUNT');
    expect(() => batchOf(schedule, -1)).toThrow('BATCH_STEP');
  });
});
