import { describe, expect, it } from '@jest/globals';
import { sha256 } from '@noble/hashes/sha2.js';
import { judgeSegment, type SegmentFacts } from '../verification/compare.ts';
import { drawSegments, segmentDetection, segmentsToAudit } from './segments.ts';

const RUNS = 300;
const SEGMENTS = 20;

const hashOf = (...parts: readonly (string | number)[]): string =>
  Buffer.from(sha256(new TextEncoder().encode(parts.join('/')))).toString('hex');
const numberOf = (hash: string): number => Number.parseInt(hash.slice(0, 8), 16) / 2 ** 32;

/** A trainer without arithmetic: where a segment leads follows from its start, the data, the base and its number, as in the real one. */
function train(stateIn: string, segment: number, data = 'data', base = 'base'): SegmentFacts {
  const stateOut = hashOf('step', stateIn, segment, data, base);
  return { stateIn, stateOut, losses: [numberOf(stateOut) + 1], tokens: 100 };
}

type Forge = (stateIn: string, segment: number) => SegmentFacts;
/** What each forger commits to for a segment that it forges. */
const FORGERS: Readonly<Record<string, Forge>> = {
  'skips steps': (stateIn, segment) => ({ ...train(stateIn, segment), stateOut: hashOf('half', stateIn, segment) }),
  'copies its checkpoint': (stateIn, segment) => ({ ...train(stateIn, segment), stateOut: stateIn }),
  'trains on other data': (stateIn, segment) => train(stateIn, segment, 'other data'),
  'trains another base': (stateIn, segment) => train(stateIn, segment, 'data', 'other base'),
  'paints its loss': (stateIn, segment) => {
    const honest = train(stateIn, segment);
    return { ...honest, losses: honest.losses.map((loss) => loss * 0.9) };
  },
};

/** One lease from commitment to verdict: an auditor runs every drawn segment again from where it says it started. */
function isCaught(seed: Uint8Array, forge: Forge, forged: ReadonlySet<number>): boolean {
  const committed: SegmentFacts[] = [];
  let state = hashOf('initial');
  for (let segment = 0; segment < SEGMENTS; segment += 1) {
    const facts = forged.has(segment) ? forge(state, segment) : train(state, segment);
    committed.push(facts);
    state = facts.stateOut;
  }
  return drawSegments(seed, SEGMENTS, segmentsToAudit('spot', SEGMENTS)).some((segment) => {
    const facts = committed[segment] as SegmentFacts;
    const evidence = { committed: facts, audited: train(facts.stateIn, segment), distance: 0 };
    return judgeSegment(evidence, true).verdict === 'bad';
  });
}

/** Which segments a run forges, drawn from its number: one to eight of them, between the first and the last. */
function forgedIn(run: number): Set<number> {
  const count = 1 + (run % 8);
  const forged = new Set<number>();
  for (let at = 0; forged.size < count; at += 1)
    forged.add(1 + Math.floor(numberOf(hashOf('forged', run, at)) * (SEGMENTS - 2)));
  return forged;
}
const seedOf = (run: number): Uint8Array => sha256(new TextEncoder().encode(`seed ${run}`));

describe('a forger of segments', () => {
  for (const [what, forge] of Object.entries(FORGERS)) {
    it(`that ${what} is caught at the stated rate`, () => {
      let caught = 0;
      let expected = 0;
      let variance = 0;
      for (let run = 0; run < RUNS; run += 1) {
        const forged = forgedIn(run);
        const rate = segmentDetection(SEGMENTS, [...forged], segmentsToAudit('spot', SEGMENTS));
        expected += rate;
        variance += rate * (1 - rate);
        if (isCaught(seedOf(run), forge, forged)) caught += 1;
      }
      expect(Math.abs(caught - expected)).toBeLessThanOrEqual(3 * Math.sqrt(variance));
    });

    it(`that ${what} in its first or last segment is always caught`, () => {
      for (let run = 0; run < RUNS; run += 1)
        expect(isCaught(seedOf(run), forge, new Set([run % 2 === 0 ? 0 : SEGMENTS - 1]))).toBe(true);
    });
  }

  it('is never an honest node', () => {
    for (let run = 0; run < RUNS; run += 1) expect(isCaught(seedOf(run), train, forgedIn(run))).toBe(false);
  });
});
