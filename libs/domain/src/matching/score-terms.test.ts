import { describe, expect, it } from '@jest/globals';
import type { Ask, Candidate } from './ask.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { placeTasks } from './place.ts';
import { bestByScan } from './placement-index/scan.ts';
import { ENGINES_STAND } from './placer.ts';
import { scoreTerms } from './score.ts';

/** A typical row embeds so many tokens: what a rate of one costs, in the unit of the terms. */
const ROW_TOKENS = 100;
const CAP = 1_000;
/** What a row is worth to who asks. */
const WORTH = ROW_TOKENS * CAP;
/** The placement rounds the time left down to six binary digits: this is so already. */
const LEFT_S = 102.4;
const RATE = 500;

const ASK = askFor({ model: 'm', rateCaps: { embeddingToken: BigInt(CAP) }, deadlineInMs: LEFT_S * 1_000 });

interface Offered {
  readonly rate?: number;
  readonly rowsPerSecond?: number;
  readonly reputation?: number;
  readonly loaded?: boolean;
  readonly loadS?: number;
  readonly evictS?: number;
}

function node(
  nodeId: string,
  { rate = RATE, rowsPerSecond = 7.8125, reputation = 1, loaded = true, ...model }: Offered,
): Candidate {
  const rates = { embeddingToken: BigInt(rate) };
  const models = [{ name: 'm', digest: 'd', engineClass: 'c', loaded, rates, rowsPerSecond, ...model }];
  return candidate(nodeId, { models, reputation, rowsAccepted: 100 });
}

/** Who of two gets a row, by the placement and by a scan, under either's name: among equals the name decides. */
function winner(one: Offered, two: Offered, over: Partial<Ask> = {}): 'one' | 'two' | 'by name' {
  const ask = { ...ASK, ...over };
  const [first, second] = [
    ['a', 'b'],
    ['b', 'a'],
  ].map(([ofOne = '', ofTwo = '']) => {
    const fleet = [node(ofOne, one), node(ofTwo, two)].sort((x, y) => (x.nodeId < y.nodeId ? -1 : 1));
    const [placed] = placeTasks([{ ask, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] }], fleet);
    expect(placed?.nodeId).toBe(fleet[bestByScan(ENGINES_STAND, ask, fleet)?.node ?? -1]?.nodeId);
    return placed?.nodeId === ofOne ? 'one' : 'two';
  });
  return first !== undefined && first === second ? first : 'by name';
}

describe('a score', () => {
  // Sixteen rows take a tenth of the time left here, and a fiftieth there: 8 % of what the work is worth lie between.
  const SLOW: Offered = { rowsPerSecond: 16 / (LEFT_S / 10) };
  const FAST: Offered = { rowsPerSecond: 16 / (LEFT_S / 50) };

  it('counts measured speed: the part of the time left that a newcomer’s task takes, of what the work is worth', () => {
    expect(scoreTerms(ASK, node('n', SLOW)).slowness).toBeCloseTo(0.1 * WORTH);
    expect(scoreTerms(ASK, node('n', FAST)).slowness).toBeCloseTo(0.02 * WORTH);
    // Nobody has measured it: it counts as fast, and its first rows are what measures it.
    expect(scoreTerms(ASK, node('n', { rowsPerSecond: 0 })).slowness).toBe(0);
    // More than all the time left is no worse than all of it.
    expect(scoreTerms(ASK, node('n', { rowsPerSecond: 0.01 })).slowness).toBe(WORTH);
  });

  it('prefers the faster at the same price, and a dearer one only by less than the time is worth', () => {
    expect(winner(FAST, SLOW)).toBe('one');
    const worth = (0.08 * WORTH) / ROW_TOKENS;
    expect(winner({ ...FAST, rate: RATE + worth - 1 }, SLOW)).toBe('one');
    expect(winner({ ...FAST, rate: RATE + worth + 1 }, SLOW)).toBe('two');
    // Where there is four times the time, the same seconds are worth a quarter.
    const patient = { deadlineInMs: 4 * LEFT_S * 1_000 };
    expect(winner({ ...FAST, rate: RATE + worth / 4 - 1 }, SLOW, patient)).toBe('one');
    expect(winner({ ...FAST, rate: RATE + worth / 4 + 1 }, SLOW, patient)).toBe('two');
  });

  const PROVEN: Offered = { reputation: 0.99 };
  const NEWCOMER: Offered = { reputation: 0.9 };

  it('counts reliability: the share of work that is lost, of what is spent by then', () => {
    const spent = RATE * ROW_TOKENS + 0.02 * WORTH;
    expect(scoreTerms(ASK, node('n', PROVEN)).unreliability).toBeCloseTo(0.01 * spent);
    expect(scoreTerms(ASK, node('n', NEWCOMER)).unreliability).toBeCloseTo(0.1 * spent);
  });

  it('prefers the better known at the same price and speed, and a dearer one only by less than what is lost with the other', () => {
    expect(winner(PROVEN, NEWCOMER)).toBe('one');
    // What a row costs with its losses: (price + slowness) · (2 - reputation) is equal where the better known asks `equal`.
    const slowness = (0.02 * WORTH) / ROW_TOKENS;
    const equal = (1.1 * (RATE + slowness)) / 1.01 - slowness;
    expect(equal).toBeGreaterThan(RATE + 40);
    expect(winner({ ...PROVEN, rate: Math.floor(equal) }, NEWCOMER)).toBe('one');
    expect(winner({ ...PROVEN, rate: Math.ceil(equal) }, NEWCOMER)).toBe('two');
  });

  it('counts a cold start and what is driven out as parts of the time left', () => {
    const cold: Offered = { loaded: false, loadS: LEFT_S / 10 };
    expect(scoreTerms(ASK, node('n', cold))).toMatchObject({ coldStart: 0.1 * WORTH, eviction: 0 });
    expect(scoreTerms(ASK, node('n', { ...cold, evictS: LEFT_S / 5 }))).toMatchObject({ eviction: 0.2 * WORTH });
    const tenth = (0.1 * WORTH) / ROW_TOKENS;
    expect(winner({}, cold)).toBe('one');
    expect(winner({ rate: RATE + tenth - 1 }, cold)).toBe('one');
    expect(winner({ rate: RATE + tenth + 1 }, cold)).toBe('two');
    expect(winner({ ...cold, rate: RATE + 2 * tenth - 1 }, { ...cold, evictS: LEFT_S / 5 })).toBe('one');
    expect(winner({ ...cold, rate: RATE + 2 * tenth + 1 }, { ...cold, evictS: LEFT_S / 5 })).toBe('two');
  });
});
