import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { VERIFY_LEVELS } from '../jobs/job-state.ts';
import { verifiability, type Stand } from './verifiability.ts';

const stand = (payout: string, of: Partial<Stand> = {}): Stand => ({ payout, works: true, audits: true, ...of });

describe('verifiability', () => {
  it('counts operators, not nodes: ten nodes of one operator cannot audit each other', () => {
    const one = Array.from({ length: 10 }, () => stand('a'));
    expect(verifiability('strict', 'm', one, false)).toMatchObject({ possible: false, workers: 1, auditors: 1 });
    expect(verifiability('strict', 'm', [...one, stand('b')], false).possible).toBe(true);
    expect(verifiability('quorum', 'm', [...one, stand('b')], false).possible).toBe(false);
    expect(verifiability('quorum', 'm', [...one, stand('b'), stand('c')], false).possible).toBe(true);
  });

  it("counts the coordinator's own engine as one, and never enough for a quorum by itself", () => {
    expect(verifiability('strict', 'm', [stand('a')], true).possible).toBe(true);
    expect(verifiability('quorum', 'm', [stand('a')], true).possible).toBe(false);
    expect(verifiability('quorum', 'm', [stand('a'), stand('b')], true).possible).toBe(true);
  });

  it('takes an operator that audits and does not work for the best of all auditors', () => {
    const stands = [stand('a', { audits: false }), stand('b', { works: false }), stand('c', { works: false })];
    expect(verifiability('quorum', 'm', stands, false).possible).toBe(true);
  });

  it('says what is there and what would change it', () => {
    expect(verifiability('quorum', 'm', [stand('a'), stand('b')], false).summary).toBe(
      "verify 'quorum' needs 2 besides the operator that works: of 2 operators that can run 'm' again 1 would be left, and the coordinator's own engine does not hold it. 1 more operator offering the model would do, or metadata.verify 'strict'.",
    );
    expect(verifiability('strict', 'm', [stand('a')], false).summary).toMatch(/metadata\.verify 'spot'\.$/);
  });

  it('asks for one that works, too, where none is', () => {
    const missing = (level: 'strict' | 'quorum', own: boolean): string | undefined =>
      /\. (\d more .*)$/.exec(verifiability(level, 'm', [], own).summary)?.[1];
    expect(missing('strict', false)).toBe(
      "2 more operators offering the model where it may run would do, or 1 more with metadata.verify 'spot'.",
    );
    expect(missing('quorum', false)).toMatch(/^3 more operators .*'spot'\.$/);
    expect(missing('quorum', true)).toMatch(/^2 more operators .*'strict'\.$/);
    expect(verifiability('quorum', 'm', [stand('a'), stand('b')], true).possible).toBe(true);
    expect(verifiability('quorum', 'm', [stand('a'), stand('b'), stand('c')], false).possible).toBe(true);
  });

  it('never gets worse when an operator comes, and off and spot are always possible', () => {
    const stands = fc.array(
      fc.record({ payout: fc.constantFrom('a', 'b', 'c', 'd'), works: fc.boolean(), audits: fc.boolean() }),
    );
    fc.assert(
      fc.property(fc.constantFrom(...VERIFY_LEVELS), stands, fc.boolean(), (level, there, own) => {
        const before = verifiability(level, 'm', there, own).possible;
        if (level === 'off' || level === 'spot') expect(before).toBe(true);
        if (before) expect(verifiability(level, 'm', [...there, stand('new')], own).possible).toBe(true);
        if (before) expect(verifiability(level, 'm', there, true).possible).toBe(true);
      }),
    );
  });
});
