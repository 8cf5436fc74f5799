import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { drawSegments, segmentDetection, segmentsToAudit, segmentStepsFor } from './segments.ts';

const seedOf = (n: number): Uint8Array => {
  const seed = new Uint8Array(32).fill(n % 256);
  seed[0] = Math.floor(n / 256) % 256;
  return seed;
};

describe('segments of a fine-tune', () => {
  it('are drawn first, last and at random between, each once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.nat({ max: 9_999 }), (segments, n) => {
        const count = segmentsToAudit('spot', segments);
        const drawn = drawSegments(seedOf(n), segments, count);
        expect(new Set(drawn).size).toBe(count);
        expect(drawn.every((segment) => segment >= 0 && segment < segments)).toBe(true);
        expect(drawn).toContain(0);
        expect(drawn).toContain(segments - 1);
      }),
    );
  });

  it('are all drawn when strict, none when off', () => {
    expect(drawSegments(seedOf(1), 9, segmentsToAudit('strict', 9))).toHaveLength(9);
    expect(segmentsToAudit('off', 9)).toBe(0);
  });

  it('show a forger at the stated rate over 2,000 seeded draws', () => {
    for (const { segments, forged } of [
      { segments: 20, forged: [7] },
      { segments: 20, forged: [3, 4, 5, 6, 7, 8, 9] },
      { segments: 64, forged: [10, 20, 30] },
      { segments: 12, forged: [0] },
      { segments: 12, forged: [11] },
    ]) {
      const count = segmentsToAudit('spot', segments);
      let caught = 0;
      for (let n = 0; n < 2_000; n += 1)
        if (drawSegments(seedOf(n), segments, count).some((segment) => forged.includes(segment))) caught += 1;
      const rate = segmentDetection(segments, forged, count);
      // Three standard deviations of 2,000 throws: a draw that prefers one side of the lease falls out of it.
      expect(Math.abs(caught / 2_000 - rate)).toBeLessThanOrEqual(3 * Math.sqrt((rate * (1 - rate)) / 2_000) + 1e-9);
    }
  });

  it('are as long as a node may cost, and never fewer than four where there are four steps', () => {
    expect(segmentStepsFor(1_000, 400, 4_096)).toBe(20);
    expect(segmentStepsFor(40, 400, 4_096)).toBe(10);
    expect(segmentStepsFor(3, 400, 4_096)).toBe(1);
    expect(segmentStepsFor(100_000, 1, 4_096)).toBe(4_096);
  });
});
