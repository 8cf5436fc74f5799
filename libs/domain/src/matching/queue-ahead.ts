import { orderStatistic, SAMPLE_MAX, SAMPLE_MIN, TAIL } from '../pricing/quote.ts';

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
 * The measured speeds of nodes added up. A node that nobody has measured counts as the mean of those that are; what nodes say of
 * themselves counts only while none is, and within bounds: else one of them empties every queue.
 *
 * @param among Whose mean that is: all that serve the model, where `nodes` are those of them that may serve certain rows.
 */
export function marketPace(nodes: readonly NodeSpeed[], among: readonly NodeSpeed[] = nodes): MarketPace {
  const isMeasured = among.some((node) => node.measured > 0);
  const speedOf = ({ measured, claimed }: NodeSpeed): number =>
    isMeasured ? Math.max(0, measured) : Math.max(0, Math.min(CLAIM_MAX, claimed));
  const known = among.map(speedOf).filter((speed) => speed > 0);
  if (known.length === 0) return { nodes: nodes.length, rowsPerSecond: null };
  const mean = known.reduce((sum, speed) => sum + speed, 0) / known.length;
  const rowsPerSecond = nodes.reduce((sum, node) => sum + (speedOf(node) || mean), 0);
  return { nodes: nodes.length, rowsPerSecond };
}

/**
 * Work is counted in *usual rows*: as many rows as long as those that speeds were measured with would take as long. By what the rows
 * count as; where that is not known of them, or of those, a row is a usual one.
 */
export function usualRows(rows: number, counted: number | null, usualRow: number | null): number {
  return counted === null || counted <= 0 || usualRow === null ? rows : counted / usualRow;
}

/** Speeds are of the rows that were worked on last. */
const USUAL_BATCHES = 20;

/** What a row counted as in the batches that were over last; null where that is not known of any. Newest first. */
export function usualRowOf(past: readonly { readonly rows: number; readonly counted: number | null }[]): number | null {
  let [rows, counted] = [0, 0];
  for (const one of past.filter((batch) => (batch.counted ?? 0) > 0).slice(0, USUAL_BATCHES)) {
    rows += one.rows;
    counted += one.counted ?? 0;
  }
  return rows > 0 ? counted / rows : null;
}

/** Rows without an answer of the jobs that may go to certain regions; null: anywhere. */
export interface RegionBacklog {
  readonly region: string | null;
  readonly rows: number;
  /** Of the requester. */
  readonly ownRows: number;
  /** Those whose turn comes before the rows in question. */
  readonly rowsAhead: number;
  /** The same three in usual rows. */
  readonly work: number;
  readonly ownWork: number;
  readonly workAhead: number;
}

/** What was taken and has no answer yet, as it stands before the rows in question. */
export interface Backlog {
  /** Of the whole market. */
  readonly rows: number;
  /** Of the requester. */
  readonly ownRows: number;
  /** Of the whole market, those whose turn comes before the rows in question, and that their nodes may be asked for. */
  readonly rowsAhead: number;
  /** What the nodes in question have to do of it, in usual rows: all, the requester's, and what comes before. */
  readonly work: number;
  readonly ownWork: number;
  readonly workAhead: number;
}

/**
 * What stands before rows that may go to certain regions.
 *
 * @param isTheirs Whether rows for these regions are done by the same nodes; null: the rows in question may go anywhere.
 * @param share Part of the whole market's speed that the nodes have that may serve them: they do that part of what may go anywhere.
 */
export function backlogBefore(
  lines: readonly RegionBacklog[],
  isTheirs: ((region: string) => boolean) | null,
  share: number,
): Backlog {
  const sum = { rows: 0, ownRows: 0, rowsAhead: 0, work: 0, ownWork: 0, workAhead: 0 };
  for (const line of lines) {
    const part = isTheirs === null || line.region === null ? share : isTheirs(line.region) ? 1 : 0;
    sum.rows += line.rows;
    sum.ownRows += line.ownRows;
    if (part > 0) sum.rowsAhead += line.rowsAhead;
    sum.work += part * line.work;
    sum.ownWork += part * line.ownWork;
    sum.workAhead += part * line.workAhead;
  }
  return sum;
}

/** When a batch was expected to be over, from its start (null: nobody's speed was known), and when it was. */
export interface PastFinish {
  readonly expectedS: number | null;
  readonly tookS: number;
  /** False: it was cut off at its deadline, and would have taken longer. */
  readonly hasEnded: boolean;
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

/** How long so much work more takes behind what is ahead, by speeds alone: what an expectation is compared with later. */
export function expectedSeconds(pace: MarketPace, workAhead: number, work: number): number | null {
  const { rowsPerSecond } = pace;
  return rowsPerSecond === null || rowsPerSecond <= 0 ? null : JOB_OVERHEAD_S + (workAhead + work) / rowsPerSecond;
}

interface PastRatio {
  readonly ratio: number;
  readonly hasEnded: boolean;
}

/** What batches took beside what was expected of them; given the newest first, for older ones say less. */
function ratiosOf(past: readonly PastFinish[]): PastRatio[] {
  const known = past.flatMap(({ expectedS, tookS, hasEnded }) =>
    expectedS !== null && expectedS > 0 ? [{ ratio: tookS / expectedS, hasEnded }] : [],
  );
  return known.slice(0, SAMPLE_MAX);
}

/**
 * When a job is over: by the queue and the measured speeds, and between which times four of five jobs were over for which the same
 * was expected. Null while nobody's speed is known: no promise is better than an invented one.
 */
export function expectFinish(expectedS: number | null, past: readonly PastFinish[]): ExpectedFinish | null {
  if (expectedS === null) return null;
  const ratios = ratiosOf(past).map(({ ratio }) => ratio);
  ratios.sort((a, b) => a - b);
  const isKnown = ratios.length >= SAMPLE_MIN;
  const at = (part: number): number => expectedS * orderStatistic(ratios, part);
  return {
    lowS: isKnown ? at(TAIL) : expectedS * ASSUMED.low,
    expectedS: isKnown ? at(0.5) : expectedS,
    highS: isKnown ? at(1 - TAIL) : expectedS * ASSUMED.high,
    sampleSize: ratios.length,
  };
}

/** The chance that a job is over within so many seconds, by the same comparison. Null before there is data. */
export function chanceWithin(withinS: number, expectedS: number | null, past: readonly PastFinish[]): number | null {
  const known = ratiosOf(past);
  if (expectedS === null || known.length < SAMPLE_MIN) return null;
  const inTime = known.filter(({ ratio, hasEnded }) => hasEnded && ratio * expectedS <= withinS).length;
  // Laplace's rule: never certain, either way.
  return (inTime + 1) / (known.length + 2);
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
    {
      whose: 'requester',
      waiting: backlog.ownRows,
      work: backlog.ownWork,
      rowsMax: limits.ownRows,
      secondsMax: limits.ownSeconds,
    },
    {
      whose: 'market',
      waiting: backlog.rows,
      work: backlog.work,
      rowsMax: limits.rows,
      secondsMax: limits.seconds,
    },
  ] as const;
  for (const { whose, waiting, work, rowsMax, secondsMax } of looks) {
    if (waiting === 0) continue;
    const seconds = rowsPerSecond === null || rowsPerSecond <= 0 ? null : work / rowsPerSecond;
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
