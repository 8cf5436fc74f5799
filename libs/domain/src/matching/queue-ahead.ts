import { orderStatistic, SAMPLE_MIN } from '../pricing/quote.ts';

/** What the live nodes of a market (the nodes that serve one model) can do, by measured speeds. */
export interface MarketPace {
  readonly nodes: number;
  /** Null: nobody's speed is known, so that nothing is promised and nothing refused by it. */
  readonly rowsPerSecond: number | null;
}

/** Rows a second of one live node; 0: not measured, or nothing said. */
export interface NodeSpeed {
  readonly measured: number;
  readonly claimed: number;
}

/** Rows a second that a node's own word counts for at most, where nobody has measured any node of its model. */
const CLAIM_MAX = 100;

/**
 * The measured speeds of a market's nodes added up. A node that nobody has measured counts as the mean of those that are; what
 * nodes say of themselves counts only while none is, and within bounds: else one of them empties every queue.
 */
export function marketPace(nodes: readonly NodeSpeed[]): MarketPace {
  const measured = nodes.flatMap((node) => (node.measured > 0 ? [node.measured] : []));
  const claimed = nodes.flatMap((node) => (node.claimed > 0 ? [Math.min(CLAIM_MAX, node.claimed)] : []));
  const known = measured.length > 0 ? measured : claimed;
  const mean = known.reduce((sum, speed) => sum + speed, 0) / known.length;
  return { nodes: nodes.length, rowsPerSecond: known.length === 0 ? null : mean * nodes.length };
}

/** Rows that were taken and have no answer yet. */
export interface Backlog {
  /** Of the whole market. */
  readonly rows: number;
  /** Of the requester. */
  readonly ownRows: number;
  /** Of the whole market, those whose turn comes before the rows in question. */
  readonly rowsAhead: number;
}

/** When something was expected to be over, from when it was taken, and when it was. */
export interface PastFinish {
  readonly expectedS: number;
  readonly tookS: number;
}

export interface ExpectedFinish {
  /** Seconds from now: four of five end between `lowS` and `highS`. */
  readonly lowS: number;
  readonly expectedS: number;
  readonly highS: number;
  /** Jobs that the interval rests on; below {@link SAMPLE_MIN} its ends are assumed. */
  readonly sampleSize: number;
}

/** Reading its file, the last lease's verdict, writing its files: what every job takes, however few its rows. */
export const JOB_OVERHEAD_S = 5;
/** Before there are finished jobs to learn from: speeds are measured, but nodes go and urgent work comes. */
const ASSUMED = { low: 0.5, high: 3 } as const;
const TAIL = 0.1;

/** How long `rows` more take behind those that are ahead, by speeds alone: what an expectation is compared with later. */
export function expectedSeconds(pace: MarketPace, rowsAhead: number, rows: number): number | null {
  const { rowsPerSecond } = pace;
  return rowsPerSecond === null || rowsPerSecond <= 0 ? null : JOB_OVERHEAD_S + (rowsAhead + rows) / rowsPerSecond;
}

/**
 * When a job is over: by the queue and the measured speeds, and between which times four of five jobs were over for which the same
 * was expected. Null while nobody's speed is known: no promise is better than an invented one.
 */
export function expectFinish(
  pace: MarketPace,
  rowsAhead: number,
  rows: number,
  past: readonly PastFinish[],
): ExpectedFinish | null {
  const expectedS = expectedSeconds(pace, rowsAhead, rows);
  if (expectedS === null) return null;
  const ratios = past
    .filter((one) => one.expectedS > 0)
    .map((one) => one.tookS / one.expectedS)
    .sort((a, b) => a - b);
  const isKnown = ratios.length >= SAMPLE_MIN;
  const at = (part: number): number => expectedS * orderStatistic(ratios, part);
  return {
    lowS: isKnown ? at(TAIL) : expectedS * ASSUMED.low,
    expectedS: isKnown ? at(0.5) : expectedS,
    highS: isKnown ? at(1 - TAIL) : expectedS * ASSUMED.high,
    sampleSize: ratios.length,
  };
}

/** How much may wait, in rows and in seconds of the live nodes' work. */
export interface QueueLimits {
  readonly rows: number;
  readonly seconds: number;
  /** Of one requester. */
  readonly ownRows: number;
  readonly ownSeconds: number;
}

export interface QueueFull {
  readonly whose: 'market' | 'requester';
  readonly unit: 'rows' | 'seconds';
  /** What waits now, and how much may, in that unit. */
  readonly waiting: number;
  readonly limit: number;
  /** Until there is room for these rows, by the nodes' speeds; null when nobody's is known. */
  readonly roomInS: number | null;
}

/**
 * Whether the queue takes `rows` more; null: it does. Seconds count what waits already, not the rows in question, and an empty queue
 * takes anything: else a job that is large for today's nodes would be told to try again for ever.
 */
export function queueFull(limits: QueueLimits, backlog: Backlog, pace: MarketPace, rows: number): QueueFull | null {
  const { rowsPerSecond } = pace;
  const looks = [
    { whose: 'requester', waiting: backlog.ownRows, rowsMax: limits.ownRows, secondsMax: limits.ownSeconds },
    { whose: 'market', waiting: backlog.rows, rowsMax: limits.rows, secondsMax: limits.seconds },
  ] as const;
  for (const { whose, waiting, rowsMax, secondsMax } of looks) {
    if (waiting === 0) continue;
    const seconds = rowsPerSecond === null || rowsPerSecond <= 0 ? null : waiting / rowsPerSecond;
    if (waiting + rows > rowsMax) {
      const over = Math.min(waiting, waiting + rows - rowsMax);
      const roomInS = seconds === null ? null : (seconds * over) / waiting;
      return { whose, unit: 'rows', waiting, limit: rowsMax, roomInS };
    }
    if (seconds !== null && seconds > secondsMax)
      return { whose, unit: 'seconds', waiting: seconds, limit: secondsMax, roomInS: seconds - secondsMax };
  }
  return null;
}
