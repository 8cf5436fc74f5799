/** What a batch counted as before it began, and what it cost in the end: both in the smallest token units. */
export interface PastCost {
  /** The most that its rows could count as, at the prices posted then; null: nobody noted it. */
  readonly counted: number | null;
  readonly cost: number;
}

export interface CostForecast {
  /** Four of five such batches cost between these, in the smallest token units. */
  readonly low: number;
  readonly high: number;
  readonly sampleSize: number;
}

/** An interval is stated from this many past batches on: with fewer its ends are the sample's ends, and say nothing. */
export const SAMPLE_MIN = 20;
/** Older batches say less about the next. */
export const SAMPLE_MAX = 500;
export const TAIL = 0.1;

/**
 * What a batch will cost that counts as so much, from what others cost beside what they counted as, the newest first. Null before
 * there is data.
 *
 * What carries over from one batch to the next is the part of the counted work that comes true, not what a row cost: rows of four
 * thousand tokens follow rows of ten. The ends are order statistics of that part at (n + 1) · 0.1 and 0.9, interpolated: the next
 * lies between them four times in five whatever the distribution is, as long as it is drawn like the others. A test counts that.
 */
export function forecastCost(past: readonly PastCost[], counted: number): CostForecast | null {
  const known = past.flatMap(({ counted: of, cost }) => (of !== null && of > 0 ? [cost / of] : []));
  const parts = known.slice(0, SAMPLE_MAX);
  if (parts.length < SAMPLE_MIN) return null;
  parts.sort((a, b) => a - b);
  return {
    low: counted * orderStatistic(parts, TAIL),
    high: counted * orderStatistic(parts, 1 - TAIL),
    sampleSize: parts.length,
  };
}

/** The value below which the part `part` of draws like these lies: (n + 1) · part-th of the sorted, interpolated. */
export function orderStatistic(sorted: readonly number[], part: number): number {
  const at = Math.min(sorted.length, Math.max(1, (sorted.length + 1) * part)) - 1;
  const below = sorted[Math.floor(at)] ?? 0;
  const above = sorted[Math.ceil(at)] ?? below;
  return below + (above - below) * (at - Math.floor(at));
}
