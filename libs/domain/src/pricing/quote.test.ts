import { describe, expect, it } from '@jest/globals';
import { chance, type Chance } from '../matching/chance.ts';
import { clear } from './clear.ts';
import { forecastCost, SAMPLE_MIN, type PastCost } from './quote.ts';

interface Batch extends PastCost {
  readonly counted: number;
  readonly rows: number;
  /** The most that a row could count as, in units of input. */
  readonly rowUnits: number;
}

/** Ten nodes' rates wander around list price; one in five nodes is busy with others' work. */
function clearedBy(rng: Chance): { readonly median: number; readonly cleared: number } {
  const asks = Array.from({ length: 10 }, (_, i) => ({
    nodeId: `n${i}`,
    price: BigInt(800 + rng.below(400)),
    units: rng.below(5) === 0 ? 1 : 100,
  }));
  const demand = { jobId: 'j', cap: 10_000n, units: 1 + rng.below(900), slackMs: 0 };
  const prices = asks.map(({ price }) => Number(price)).sort((a, b) => a - b);
  return { median: prices[5] ?? 0, cleared: Number(clear(asks, [demand]).price ?? 0n) };
}

/** A batch of any size: from one row to ten thousand, of thirty bytes to ten thousand, with long answers or short ones. */
function anyBatch(rng: Chance): Batch {
  const { median, cleared } = clearedBy(rng);
  const rows = Math.ceil(10 ** (4 * rng.unit()));
  const rowBytes = Math.ceil(10 ** (1.5 + 2.5 * rng.unit()));
  const maxTokens = Math.ceil(10 ** (1 + 2 * rng.unit()));
  const rowUnits = rowBytes + 2 * maxTokens;
  const bytesPerToken = 3 + 2 * rng.unit();
  const partAnswered = 0.1 + 0.9 * rng.unit();
  return {
    rows,
    rowUnits,
    counted: rows * rowUnits * median,
    cost: rows * (rowBytes / bytesPerToken + 2 * maxTokens * partAnswered) * cleared,
  };
}

describe('what a batch will cost', () => {
  it('lies between the ends four times in five over 1,000 runs of batches of all sizes, of short rows and of long ones', () => {
    const rng = chance(5);
    const batches = Array.from({ length: 1_080 }, () => anyBatch(rng));
    const runs = Array.from({ length: 1_000 }, (_, run) => {
      const past = batches.slice(run + 1, run + 1 + SAMPLE_MIN + rng.below(60));
      const next = batches[run] ?? anyBatch(rng);
      const forecast = forecastCost(past, next.counted);
      if (forecast === null) throw new Error('expected a forecast');
      return { next, isInside: next.cost >= forecast.low && next.cost <= forecast.high };
    });
    const inside = (of: (batch: Batch) => boolean): number => {
      const some = runs.filter(({ next }) => of(next));
      return some.filter(({ isInside }) => isInside).length / some.length;
    };
    expect(inside(() => true)).toBeGreaterThanOrEqual(0.75);
    expect(inside(() => true)).toBeLessThanOrEqual(0.85);
    for (const part of [
      inside(({ rowUnits }) => rowUnits < 300),
      inside(({ rowUnits }) => rowUnits >= 3_000),
      inside(({ rows }) => rows < 100),
      inside(({ rows }) => rows >= 100),
    ])
      expect(Math.abs(part - 0.8)).toBeLessThan(0.12);
  });

  it('of rows four hundred times as long is four hundred times as much', () => {
    const past = Array.from({ length: SAMPLE_MIN }, (_, i) => ({ counted: 1_000, cost: 300 + i }));
    const [short, long] = [forecastCost(past, 1_000), forecastCost(past, 400_000)];
    expect([short?.low, short?.high].map((end) => Math.round(400 * (end ?? 0)))).toEqual(
      [long?.low, long?.high].map((end) => Math.round(end ?? 0)),
    );
    expect(short?.low).toBeGreaterThanOrEqual(300);
    expect(short?.high).toBeLessThanOrEqual(320);
  });

  it('is not said before there is data, nor from batches of which nobody noted what they counted as', () => {
    const known = Array.from({ length: SAMPLE_MIN - 1 }, () => ({ counted: 1, cost: 1 }));
    expect(forecastCost([...known, { counted: null, cost: 1 }, { counted: 0, cost: 1 }], 10)).toBeNull();
    expect(forecastCost([...known, { counted: 1, cost: 1 }], 10)).toMatchObject({ sampleSize: SAMPLE_MIN });
  });
});
