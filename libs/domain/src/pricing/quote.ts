/** A finished job of the same model and capability. */
export interface PastJob {
  /** What a unit of its work cost, millionths of the smallest token unit. */
  readonly unitCost: number;
  /** From submission to its last row, per unit of work. */
  readonly msPerUnit: number;
}

export interface PriceForecast {
  /** In four of five such jobs the cost lies between these, millionths of the smallest token unit. */
  readonly low: number;
  readonly high: number;
  /** Chance that it ends before the deadline. */
  readonly onTime: number;
  readonly sampleSize: number;
}

/** An interval is stated from this many past jobs on: with fewer its ends are the sample's ends, and say nothing. */
export const SAMPLE_MIN = 20;
/** Older jobs say less about the next. */
export const SAMPLE_MAX = 500;
const TAIL = 0.1;

/**
 * What a job of so many units will cost and whether it will be in time, from jobs like it. Null before there is data.
 *
 * The ends are order statistics of the sample at (n + 1) · 0.1 and 0.9, interpolated: the next job falls between them four
 * times in five whatever the distribution is, as long as it is drawn like the others. A test counts that.
 */
export function forecastFrom(past: readonly PastJob[], units: number, deadlineInMs: number): PriceForecast | null {
  const sample = past.slice(-SAMPLE_MAX);
  if (sample.length < SAMPLE_MIN) return null;
  const costs = sample.map(({ unitCost }) => unitCost).sort((a, b) => a - b);
  const inTime = sample.filter(({ msPerUnit }) => msPerUnit * units <= deadlineInMs).length;
  return {
    low: units * orderStatistic(costs, TAIL),
    high: units * orderStatistic(costs, 1 - TAIL),
    // Laplace's rule: never certain, either way.
    onTime: (inTime + 1) / (sample.length + 2),
    sampleSize: sample.length,
  };
}

/** The value below which the part `part` of draws like these lies: (n + 1) · part-th of the sorted, interpolated. */
export function orderStatistic(sorted: readonly number[], part: number): number {
  const at = Math.min(sorted.length, Math.max(1, (sorted.length + 1) * part)) - 1;
  const below = sorted[Math.floor(at)] ?? 0;
  const above = sorted[Math.ceil(at)] ?? below;
  return below + (above - below) * (at - Math.floor(at));
}
