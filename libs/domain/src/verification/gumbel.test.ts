import { describe, expect, it } from '@jest/globals';
import { gumbelNoise, pickToken, standingOf, type TokenCandidate } from './gumbel.ts';

const PROBABILITIES = [0.5, 0.25, 0.15, 0.07, 0.03];
const CANDIDATES: readonly TokenCandidate[] = PROBABILITIES.map((p, i) => ({ token: 10 + i, logprob: Math.log(p) }));
const rule = (temperature: number, topP = 1, seed = 7) => ({ temperature, topP, seed });

function shares(temperature: number, topP: number, draws: number): number[] {
  const counts = CANDIDATES.map(() => 0);
  for (let position = 0; position < draws; position += 1) {
    const at = pickToken(CANDIDATES, rule(temperature, topP), position) - 10;
    counts[at] = (counts[at] ?? 0) + 1;
  }
  return counts.map((count) => count / draws);
}

describe('the seeded sampler', () => {
  it('gives everyone the same noise for the same counters', () => {
    expect(gumbelNoise(1, 2, 3)).toBe(gumbelNoise(1, 2, 3));
    expect(gumbelNoise(0, 0, 0)).toBeCloseTo(0.0638288421, 9);
    expect(gumbelNoise(2 ** 32 - 1, 4_095, 151_935)).toBeCloseTo(-0.924040606, 9);
  });

  it('moves with each of its counters', () => {
    const seen = new Set<number>();
    for (let seed = 0; seed < 20; seed += 1)
      for (let at = 0; at < 20; at += 1)
        for (let token = 0; token < 20; token += 1) seen.add(gumbelNoise(seed, at, token));
    expect(seen.size).toBe(8_000);
  });

  it('draws noise with the mean and variance of a Gumbel variable', () => {
    const n = 60_000;
    let sum = 0;
    let squares = 0;
    for (let i = 0; i < n; i += 1) {
      const g = gumbelNoise(i % 30, i % 200, i);
      sum += g;
      squares += g * g;
    }
    expect(sum / n).toBeCloseTo(0.5772, 1);
    expect(squares / n - (sum / n) ** 2).toBeCloseTo(Math.PI ** 2 / 6, 1);
  });

  it('samples from the distribution of the model at temperature 1', () => {
    shares(1, 1, 30_000).forEach((share, i) => expect(Math.abs(share - (PROBABILITIES[i] ?? 0))).toBeLessThan(0.012));
  });

  it('sharpens with a low temperature and flattens with a high one', () => {
    const cold = PROBABILITIES.map((p) => p ** 2);
    const total = cold.reduce((a, b) => a + b);
    shares(0.5, 1, 30_000).forEach((share, i) => expect(Math.abs(share - (cold[i] ?? 0) / total)).toBeLessThan(0.012));
    expect(shares(2, 1, 5_000)[0]).toBeLessThan(0.45);
  });

  it('never leaves the nucleus', () => {
    const [first, second, third, ...rest] = shares(1, 0.76, 5_000);
    expect(first).toBeGreaterThan(0);
    expect(second).toBeGreaterThan(0);
    expect(third).toBeGreaterThan(0);
    expect(rest).toEqual([0, 0]);
    expect(shares(1, 0.5, 500)[0]).toBe(1);
  });

  it('cuts the nucleus after the temperature, which flattens it', () => {
    expect(shares(2, 0.9, 3_000)[3]).toBeGreaterThan(0);
    expect(shares(2, 0.9, 3_000)[4]).toBe(0);
    expect(shares(0.5, 0.9, 3_000)[2]).toBe(0);
  });

  it('is greedy at temperature 0 whatever the seed', () => {
    expect(pickToken(CANDIDATES, rule(0, 1, 1), 3)).toBe(10);
    expect(pickToken(CANDIDATES, rule(0, 0.1, 99), 3)).toBe(10);
  });

  it('has an auditor find rank 0 and no margin for every token it picked itself', () => {
    for (let position = 0; position < 200; position += 1) {
      const token = pickToken(CANDIDATES, rule(0.8, 0.95), position);
      const own = CANDIDATES.find((candidate) => candidate.token === token) ?? { token, logprob: -Infinity };
      const standing = standingOf(CANDIDATES, own, rule(0.8, 0.95), position);
      expect(standing.rank).toBe(0);
      expect(standing.bestScore - standing.score).toBe(0);
    }
  });

  it('charges a token that the seed does not pick, and more one outside the nucleus', () => {
    const far = { token: 999, logprob: -12 };
    const standing = standingOf(CANDIDATES, far, rule(1, 0.76), 0);
    expect(standing.rank).toBe(3);
    expect(standing.bestScore - standing.score).toBeCloseTo(12 + Math.log(0.15), 9);
    const swapped = CANDIDATES.map((c) => standingOf(CANDIDATES, c, rule(1), 5)).filter((s) => s.rank > 0);
    expect(swapped).toHaveLength(4);
    for (const s of swapped) expect(s.bestScore).toBeGreaterThan(s.score);
  });

  it('ranks by the model alone at temperature 0', () => {
    expect(standingOf(CANDIDATES, CANDIDATES[2] ?? { token: 0, logprob: 0 }, rule(0), 0)).toEqual({
      score: Math.log(0.15),
      bestScore: Math.log(0.5),
      rank: 2,
    });
    expect(standingOf(CANDIDATES, { token: 999, logprob: -20 }, rule(0), 0).rank).toBe(5);
  });
});
