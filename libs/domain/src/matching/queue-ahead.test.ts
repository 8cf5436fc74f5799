import { describe, expect, it } from '@jest/globals';
import { chance } from './chance.ts';
import { SAMPLE_MAX } from '../pricing/quote.ts';
import {
  backlogBefore,
  chanceWithin,
  expectedSeconds,
  expectFinish,
  marketPace,
  queueFull,
  usualRowOf,
  usualRows,
  type Backlog,
  type PastFinish,
  type QueueLimits,
  type RegionBacklog,
} from './queue-ahead.ts';

const LIMITS: QueueLimits = { rows: 1_000, seconds: 100, ownRows: 500, ownSeconds: 50 };
const PACE = { nodes: 2, rowsPerSecond: 10 };
const WINDOW_S = 86_400;
const TICK_S = 10;

describe('the pace of a market', () => {
  const node = (measured: number, claimed = 0): { measured: number; claimed: number } => ({ measured, claimed });

  it('is what was measured; a node that nobody measured counts as the mean of the others, whatever it says', () => {
    expect(marketPace([node(4), node(2)])).toEqual({ nodes: 2, rowsPerSecond: 6 });
    expect(marketPace([node(4), node(2), node(0, 1e300)])).toEqual({ nodes: 3, rowsPerSecond: 9 });
  });

  it('of some of its nodes takes a node that nobody measured for the mean of all', () => {
    const all = [node(4), node(2), node(0, 50)];
    expect(marketPace([node(0, 50)], all)).toEqual({ nodes: 1, rowsPerSecond: 3 });
    expect(marketPace([], all)).toEqual({ nodes: 0, rowsPerSecond: 0 });
  });

  it('is what nodes say, within bounds, while nothing is measured, and unknown when they say nothing', () => {
    expect(marketPace([node(0, 5), node(0, 1e300)])).toEqual({ nodes: 2, rowsPerSecond: 105 });
    expect(marketPace([node(0)])).toEqual({ nodes: 1, rowsPerSecond: null });
    expect(marketPace([])).toEqual({ nodes: 0, rowsPerSecond: null });
  });
});

/** So many usual rows. */
const waiting = (rows: number, ownRows: number): Backlog => ({
  ...{ rows, ownRows, rowsAhead: rows },
  ...{ work: rows, ownWork: ownRows, workAhead: rows },
});

describe('what stands before rows', () => {
  const line = (region: string | null, rows: number, work = rows): RegionBacklog => ({
    ...{ region, rows, ownRows: 1, rowsAhead: rows },
    ...{ work, ownWork: 1, workAhead: work },
  });
  const lines = [line(null, 1_000), line('eu', 30), line('us', 500)];

  it('in one region is what may go there alone, and its part of what may go anywhere', () => {
    expect(backlogBefore(lines, (region) => region === 'eu', 0.01)).toEqual({
      ...{ rows: 1_530, ownRows: 3, rowsAhead: 1_030 },
      ...{ work: 40, ownWork: 1.01, workAhead: 40 },
    });
    expect(backlogBefore(lines, null, 1)).toMatchObject({ rowsAhead: 1_530, workAhead: 1_530 });
  });

  it('takes as long as the work in it: a row four hundred times as long is four hundred rows', () => {
    const past = [
      { rows: 1_000, counted: 10_000 },
      { rows: 500, counted: null },
    ];
    expect(usualRowOf(past)).toBe(10);
    expect(usualRows(7, 7 * 4_000, usualRowOf(past))).toBe(2_800);
    expect([usualRows(7, null, 10), usualRows(7, 70, usualRowOf([]))]).toEqual([7, 7]);
    expect(queueFull(LIMITS, backlogBefore([line(null, 10, 4_000)], null, 1), PACE, 1)).toMatchObject({
      unit: 'seconds',
    });
  });
});

describe('a queue', () => {
  it('takes rows up to its limits, of the requester and of the market, in rows and in seconds', () => {
    const full = (rows: number, ownRows: number, more: number, pace = PACE): unknown =>
      queueFull(LIMITS, waiting(rows, ownRows), pace, more);
    expect(full(100, 100, 400)).toBeNull();
    expect(full(100, 100, 401)).toEqual({ whose: 'requester', unit: 'rows', waiting: 100, limit: 500, roomInS: 0.1 });
    expect(full(990, 0, 11)).toEqual({ whose: 'market', unit: 'rows', waiting: 990, limit: 1_000, roomInS: 0.1 });
    expect(full(600, 400, 10, { nodes: 1, rowsPerSecond: 5 })).toEqual({
      whose: 'requester',
      unit: 'seconds',
      waiting: 80,
      limit: 50,
      roomInS: 30,
    });
    expect(full(600, 100, 10, { nodes: 1, rowsPerSecond: 5 })).toMatchObject({
      whose: 'market',
      unit: 'seconds',
      roomInS: 20,
    });
  });

  it('that is empty takes anything, and refuses nothing by speeds that nobody knows', () => {
    expect(queueFull(LIMITS, waiting(0, 0), PACE, 1_000_000)).toBeNull();
    const unknown = { nodes: 0, rowsPerSecond: null };
    expect(queueFull(LIMITS, waiting(900, 0), unknown, 10)).toBeNull();
    expect(queueFull(LIMITS, waiting(900, 0), unknown, 200)).toMatchObject({ roomInS: null });
    expect(expectFinish(expectedSeconds(unknown, 1, 1), [])).toBeNull();
  });

  it('never says that room comes later than when all of it is done', () => {
    const rng = chance(3);
    for (let i = 0; i < 2_000; i += 1) {
      const [ownRows, others] = [rng.below(800), rng.below(2_000)];
      const pace = { nodes: 1, rowsPerSecond: 1 + rng.below(40) };
      const full = queueFull(LIMITS, waiting(ownRows + others, ownRows), pace, 1 + rng.below(3_000));
      if (full === null) continue;
      expect(full.roomInS).toBeGreaterThan(0);
      expect(full.roomInS).toBeLessThanOrEqual((ownRows + others) / pace.rowsPerSecond);
    }
  });
});

interface SimulatedEnd {
  readonly isInside: boolean;
  readonly sampleSize: number;
  /** How far apart the ends were. */
  readonly spread: number;
  readonly rowWork: number;
  readonly rows: number;
  /** Chance that was given to its deadline, and whether it was kept. */
  readonly promised: number | null;
  readonly isKept: boolean;
}

/**
 * A market: nodes whose speed wanders, that go and come back; jobs of very different sizes, some of very many rows and some of one, of
 * rows a thousand times as long as others', one in three of them urgent, so that it overtakes. Served in the order of urgency. Speeds
 * are of the rows that were worked on last. What is expected at submission is compared with what came.
 */
function* finishedJobs(seed: number): Generator<SimulatedEnd> {
  const rng = chance(seed);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - rng.unit())) * Math.cos(2 * Math.PI * rng.unit());
  const nodes = Array.from({ length: 12 }, () => ({ speed: 1 + 4 * rng.unit(), isUp: true, drift: 1, measured: 1 }));
  const open: {
    readonly rows: number;
    /** What a row counts as, and what it is. */
    readonly rowCounted: number;
    readonly rowWork: number;
    left: number;
    readonly key: number;
    readonly atS: number;
    readonly expectedS: number;
    readonly low: number;
    readonly high: number;
    readonly sample: number;
    readonly withinS: number;
    readonly promised: number | null;
  }[] = [];
  const past: (PastFinish & { rows: number; counted: number })[] = [];
  for (let nowS = 0; ; nowS += TICK_S) {
    for (const node of nodes) {
      if (rng.below(200) === 0) node.isUp = !node.isUp;
      if (!node.isUp && rng.below(30) === 0) node.isUp = true;
      node.drift = Math.exp(0.9 * Math.log(node.drift) + 0.15 * normal());
    }
    const live = nodes.filter(({ isUp }) => isUp);
    if (rng.below(7) === 0) {
      const rowWork = 10 ** (3 * rng.unit() - 1.5);
      const rows = Math.ceil((400 * Math.exp(1.3 * normal())) / rowWork);
      // Answers are shorter than they may be, by a part that nobody knows before.
      const rowCounted = 3 * rowWork * Math.exp(0.3 * normal());
      const windowS = rng.below(3) === 0 ? 3_600 : WINDOW_S;
      const key = 2 * nowS + windowS;
      const usualRow = usualRowOf(past);
      const work = usualRows(rows, rows * rowCounted, usualRow);
      const ahead = open.filter((job) => job.key <= key);
      const workAhead = ahead.reduce(
        (sum, job) => sum + usualRows(job.left / job.rowWork, (job.left / job.rowWork) * job.rowCounted, usualRow),
        0,
      );
      const pace = marketPace(live.map(({ measured }) => ({ measured, claimed: 0 })));
      const expectedS = expectedSeconds(pace, workAhead, work);
      const finish = expectFinish(expectedS, past);
      const withinS = (expectedS ?? 0) * 4 ** (2 * rng.unit() - 1);
      if (finish !== null && expectedS !== null)
        open.push({
          ...{ rows, rowCounted, rowWork, key, expectedS, withinS },
          left: rows * rowWork,
          atS: nowS,
          low: finish.lowS,
          high: finish.highS,
          sample: finish.sampleSize,
          promised: chanceWithin(withinS, expectedS, past),
        });
      open.sort((a, b) => a.key - b.key);
    }
    let can = TICK_S * live.reduce((sum, { speed, drift }) => sum + speed * drift, 0);
    while (can > 0 && open.length > 0) {
      const job = open[0];
      if (job === undefined) break;
      for (const node of live)
        node.measured += 0.3 * Math.min(1, job.left / can) * ((node.speed * node.drift) / job.rowWork - node.measured);
      const done = Math.min(can, job.left);
      can -= done;
      job.left -= done;
      if (job.left > 0) break;
      open.shift();
      const tookS = nowS + TICK_S - job.atS + 2 + 4 * rng.unit();
      past.unshift({
        expectedS: job.expectedS,
        tookS,
        hasEnded: true,
        rows: job.rows,
        counted: job.rows * job.rowCounted,
      });
      past.length = Math.min(past.length, SAMPLE_MAX);
      yield {
        isInside: tookS >= job.low && tookS <= job.high,
        sampleSize: job.sample,
        spread: job.high / job.low,
        rowWork: job.rowWork,
        rows: job.rows,
        promised: job.promised,
        isKept: tookS <= job.withinS,
      };
    }
  }
}

function thousandJobs(seed: number): SimulatedEnd[] {
  const jobs: SimulatedEnd[] = [];
  for (const job of finishedJobs(seed)) {
    if (job.sampleSize >= 200) jobs.push(job);
    if (jobs.length === 1_000) break;
  }
  return jobs;
}

const partInside = (jobs: readonly SimulatedEnd[]): number =>
  jobs.filter(({ isInside }) => isInside).length / jobs.length;

describe('an expected finish', () => {
  const markets = [1, 2, 3].map(thousandJobs);

  it('is between its ends four times in five, over 1,000 jobs of each of three markets whose jobs differ a thousandfold', () => {
    const shares = markets.map(partInside);
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    expect({ shares, isCalibrated: mean >= 0.75 && mean <= 0.85 }).toEqual({ shares, isCalibrated: true });
    for (const share of shares) expect(Math.abs(share - 0.8)).toBeLessThan(0.1);
    // For short rows and for long ones alike, and not because the ends are as far apart as the rows differ.
    const jobs = markets.flat();
    for (const some of [jobs.filter(({ rowWork }) => rowWork < 1), jobs.filter(({ rowWork }) => rowWork >= 1)])
      expect(Math.abs(partInside(some) - 0.8)).toBeLessThan(0.07);
    expect(jobs.map(({ spread }) => spread).sort((a, b) => a - b)[jobs.length >> 1]).toBeLessThan(20);
  });

  it('is in time as often as it says', () => {
    const jobs = markets.flat();
    const promised = jobs.reduce((sum, job) => sum + (job.promised ?? 0), 0) / jobs.length;
    const kept = jobs.filter(({ isKept }) => isKept).length / jobs.length;
    expect(Math.abs(promised - kept)).toBeLessThan(0.04);
  });

  it('is by speeds and the queue alone, with wide ends, until twenty jobs have ended', () => {
    const expectedS = expectedSeconds(PACE, 100, 50);
    expect(expectFinish(expectedS, [])).toEqual({ lowS: 10, expectedS: 20, highS: 60, sampleSize: 0 });
    expect(chanceWithin(60, expectedS, [])).toBeNull();
    const past = Array.from({ length: 99 }, (_, i) => ({ expectedS: 100, tookS: 51 + i, hasEnded: true }));
    const { lowS, expectedS: middle, highS } = expectFinish(expectedS, past) ?? { lowS: 0, expectedS: 0, highS: 0 };
    expect([lowS, middle, highS].map((s) => Math.round(s * 10) / 10)).toEqual([12, 20, 28]);
    expect(chanceWithin(20, expectedS, past)).toBeCloseTo(51 / 101, 5);
  });
});
