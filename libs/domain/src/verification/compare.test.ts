import { describe, expect, it } from '@jest/globals';
import { judgeText, judgeVector, type TextEvidence, type VectorEvidence } from './compare.ts';
import { auditRate, AUDIT_RATE_FLOOR, rowsToAudit } from './audit-count.ts';

const best = { logprob: -0.1, bestLogprob: -0.1, rank: 0 };
const text = (over: Partial<TextEvidence> = {}): TextEvidence => ({
  committedText: 'four',
  auditedText: 'four',
  committedFinish: 'stop',
  auditedFinish: 'stop',
  committedUnitsIn: 9,
  auditedUnitsIn: 9,
  tokens: [best, best],
  expectedTokens: 2,
  ...over,
});
const vector = (over: Partial<VectorEvidence> = {}): VectorEvidence => ({
  cosine: 1,
  normDifference: 0,
  committedDimensions: 512,
  auditedDimensions: 512,
  committedUnitsIn: 4,
  auditedUnitsIn: 4,
  ...over,
});

describe('judgeText', () => {
  it('takes the best tokens, and near ties, for honest', () => {
    expect(judgeText(text(), true).verdict).toBe('good');
    expect(judgeText(text({ tokens: [best, { logprob: -0.71, bestLogprob: -0.7, rank: 1 }] }), true).verdict).toBe(
      'good',
    );
  });
  it('is unsure about a gap that a near tie does not explain, and lets another class have more of it', () => {
    const tokens = [best, { logprob: -0.8, bestLogprob: -0.7, rank: 1 }];
    expect(judgeText(text({ tokens }), true).verdict).toBe('unsure');
    expect(judgeText(text({ tokens }), false).verdict).toBe('good');
  });
  it.each([
    ['a token far down the list', { tokens: [best, { logprob: -0.5, bestLogprob: -0.4, rank: 300 }] }],
    ['a token far below the best', { tokens: [best, { logprob: -6, bestLogprob: -0.1, rank: 2 }] }],
    [
      'tokens below the best on average',
      {
        tokens: [
          { logprob: -1, bestLogprob: -0.5, rank: 1 },
          { logprob: -1, bestLogprob: -0.5, rank: 1 },
        ],
      },
    ],
    ['text that its tokens do not say', { auditedText: 'five' }],
    ['an answer cut short', { auditedFinish: 'unfinished' }],
    ['more input tokens than there are', { committedUnitsIn: 12 }],
  ])('calls %s bad', (_what, over) => {
    expect(judgeText(text(over), false).verdict).toBe('bad');
  });
});

describe('judgeVector', () => {
  it('takes the same direction for honest and allows another class its rounding', () => {
    expect(judgeVector(vector(), true).verdict).toBe('good');
    expect(judgeVector(vector({ cosine: 0.9995 }), false).verdict).toBe('good');
  });
  it.each([
    ['a random direction', { cosine: 0.02 }],
    ['no direction at all', { cosine: Number.NaN }],
    ['a slightly turned vector within one class', { cosine: 0.9995 }],
    ['another length', { normDifference: 0.5 }],
    ['other dimensions', { committedDimensions: 256 }],
    ['more tokens than there are', { committedUnitsIn: 5 }],
  ])('calls %s bad', (_what, over) => {
    expect(judgeVector(vector(over), true).verdict).toBe('bad');
  });
});

describe('rowsToAudit', () => {
  it('checks every row of a newcomer and of strict jobs, none when off', () => {
    expect(rowsToAudit('spot', 16, { rowsKnown: 29 })).toBe(16);
    expect(rowsToAudit('strict', 500, { rowsKnown: 10_000 })).toBe(500);
    expect(rowsToAudit('off', 500, { rowsKnown: 0 })).toBe(0);
  });
  it('draws no more of a large lease of a newcomer than tells, and never fewer than of who is known', () => {
    for (const rows of [1, 64, 65, 200, 320, 512, 2_000]) {
      const drawn = rowsToAudit('spot', rows, { rowsKnown: 0 });
      expect(drawn).toBe(Math.min(rows, Math.max(64, Math.ceil(rows / 5))));
      expect(drawn).toBeGreaterThanOrEqual(rowsToAudit('spot', rows, { rowsKnown: 30 }));
    }
  });
  it('falls to the floor and not below, at least one row per lease', () => {
    expect(auditRate(30)).toBeGreaterThan(0.15);
    expect(auditRate(10 ** 9)).toBe(AUDIT_RATE_FLOOR);
    expect(rowsToAudit('spot', 10, { rowsKnown: 10 ** 6 })).toBe(1);
    expect(rowsToAudit('spot', 1_000, { rowsKnown: 10 ** 6 })).toBe(30);
  });
});
