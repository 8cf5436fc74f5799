import { describe, expect, it } from '@jest/globals';
import { chance } from './chance.ts';
import {
  expectedSeconds,
  expectFinish,
  marketPace,
  queueFull,
  type PastFinish,
  type QueueLimits,
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

  it('is what nodes say, within bounds, while nothing is measured, and unknown when they say nothing', () => {
    expect(marketPace([node(0, 5), node(0, 1e300)])).toEqual({ nodes: 2, rowsPerSecond: 105 });
    expect(marketPace([node(0)])).toEqual({ nodes: 1, rowsPerSecond: null });
    expect(marketPace([])).toEqual({ nodes: 0, rowsPerSecond: null });
  });
});

describe('a queue', () => {
  it('takes rows up to its limits, of the requester and of the market, in rows and in seconds', () => {
    const full = (rows: number, ownRows: number, more: number, pace = PACE): unknown =>
      queueFull(LIMITS, { rows, ownRows, rowsAhead: rows }, pace, more);
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
    expect(queueFull(LIMITS, { rows: 0, ownRows: 0, rowsAhead: 0 }, PACE, 1_000_000)).toBeNull();
    const unknown = { nodes: 0, rowsPerSecond: null };
    expect(queueFull(LIMITS, { rows: 900, ownRows: 0, rowsAhead: 0 }, unknown, 10)).toBeNull();
    expect(queueFull(LIMITS, { rows: 900, ownRows: 0, rowsAhead: 0 }, unknown, 200)).toMatchObject({ roomInS: null });
    expect(expectFinish(unknown, 1, 1, [])).toBeNull();
  });

  it('never says that room comes later than when all of it is done', () => {
    const rng = chance(3);
    for (let i = 0; i < 2_000; i += 1) {
      const [ownRows, others] = [rng.below(800), rng.below(2_000)];
      const pace = { nodes: 1, rowsPerSecond: 1 + rng.below(40) };
      const full = queueFull(LIMITS, { rows: ownRows + others, ownRows, rowsAhead: 0 }, pace, 1 + rng.below(3_000));
      if (full === null) continue;
      expect(full.roomInS).toBeGreaterThan(0);
      expect(full.roomInS).toBeLessThanOrEqual((ownRows + others) / pace.rowsPerSecond);
    }
  });
});

/**
 * A market: nodes whose speed wanders, that go and come back; jobs of very different sizes, one in three of them urgent, so that
 * it overtakes. Served in the order of urgency. What is expected at submission is compared with what came.
 */
function* finishedJobs(seed: number): Generator<{ readonly inside: boolean; readonly sampleSize: number }> {
  const rng = chance(seed);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - rng.unit())) * Math.cos(2 * Math.PI * rng.unit());
  const nodes = Array.from({ length: 12 }, () => ({ speed: 1 + 4 * rng.unit(), isUp: true, drift: 1 }));
  const open: {
    rows: number;
    key: number;
    atS: number;
    expectedS: number;
    low: number;
    high: number;
    sample: number;
  }[] = [];
  const past: PastFinish[] = [];
  for (let nowS = 0; ; nowS += TICK_S) {
    for (const node of nodes) {
      if (rng.below(200) === 0) node.isUp = !node.isUp;
      if (!node.isUp && rng.below(30) === 0) node.isUp = true;
      node.drift = Math.exp(0.9 * Math.log(node.drift) + 0.15 * normal());
    }
    const live = nodes.filter(({ isUp }) => isUp);
    if (rng.below(7) === 0) {
      const rows = Math.ceil(20 * Math.exp(1.3 * normal()) * 20);
      const windowS = rng.below(3) === 0 ? 3_600 : WINDOW_S;
      const key = 2 * nowS + windowS;
      const rowsAhead = open.reduce((sum, job) => sum + (job.key <= key ? job.rows : 0), 0);
      // Measured speeds: a moving average does not follow every breath of a node.
      const pace = { nodes: live.length, rowsPerSecond: live.reduce((sum, { speed }) => sum + speed, 0) };
      const sample = past.slice(-500);
      const finish = expectFinish(pace, rowsAhead, rows, sample);
      const expectedS = expectedSeconds(pace, rowsAhead, rows);
      if (finish !== null && expectedS !== null)
        open.push({ rows, key, atS: nowS, expectedS, low: finish.lowS, high: finish.highS, sample: finish.sampleSize });
      open.sort((a, b) => a.key - b.key);
    }
    let can = TICK_S * live.reduce((sum, { speed, drift }) => sum + speed * drift, 0);
    while (can > 0 && open.length > 0) {
      const job = open[0];
      if (job === undefined) break;
      const done = Math.min(can, job.rows);
      can -= done;
      job.rows -= done;
      if (job.rows > 0) break;
      open.shift();
      const tookS = nowS + TICK_S - job.atS + 2 + 4 * rng.unit();
      past.push({ expectedS: job.expectedS, tookS });
      yield { inside: tookS >= job.low && tookS <= job.high, sampleSize: job.sample };
    }
  }
}

describe('an expected finish', () => {
  it('is between its ends four times in five, over 1,000 jobs of each of three simulated markets', () => {
    const shares = [1, 2, 3].map((seed) => {
      let [inside, all] = [0, 0];
      for (const job of finishedJobs(seed)) {
        if (job.sampleSize < 200) continue;
        all += 1;
        inside += Number(job.inside);
        if (all === 1_000) break;
      }
      return inside / all;
    });
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    expect({ shares, isCalibrated: mean >= 0.75 && mean <= 0.85 }).toEqual({ shares, isCalibrated: true });
    for (const share of shares) expect(Math.abs(share - 0.8)).toBeLessThan(0.1);
  });

  it('is by speeds and the queue alone, with wide ends, until twenty jobs have ended', () => {
    expect(expectFinish(PACE, 100, 50, [])).toEqual({ lowS: 10, expectedS: 20, highS: 60, sampleSize: 0 });
    const past = Array.from({ length: 99 }, (_, i) => ({ expectedS: 100, tookS: 51 + i }));
    const { lowS, expectedS, highS } = expectFinish(PACE, 100, 50, past) ?? { lowS: 0, expectedS: 0, highS: 0 };
    expect([lowS, expectedS, highS].map((s) => Math.round(s * 10) / 10)).toEqual([12, 20, 28]);
  });
});
