import { describe, expect, it } from '@jest/globals';
import type { Ask, Candidate } from './ask.ts';
import { chance } from './chance.ts';
import { LEASES_AHEAD } from './constraints.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { byUrgency, slackMs } from './queue-order.ts';
import {
  leaseToYield,
  worthOf,
  YIELD_LEFT_MS,
  YIELD_WORTH_RATIO,
  YIELDS_MAX,
  type JobStanding,
  type RunningLease,
} from './yield-lease.ts';

const HOUR_MS = 3_600_000;
const MODEL = {
  name: 'm',
  digest: 'd',
  engineClass: 'c',
  loaded: true,
  rates: { embeddingToken: 1n },
  rowsPerSecond: 1,
};

interface Over {
  readonly ageMs?: number;
  readonly priority?: number;
  readonly cap?: bigint;
  readonly ask?: Partial<Ask>;
}

function job(jobId: string, { cap = 100n, ask, ageMs = 0, priority = 0 }: Over = {}): JobStanding {
  return {
    ageMs,
    priority,
    ask: askFor({ jobId, model: 'm', rateCaps: { embeddingToken: cap }, ...ask }),
  };
}

function running(of: JobStanding, over: Partial<RunningLease> = {}): RunningLease {
  return {
    ...of,
    leaseId: `${of.ask.jobId}-1`,
    nodeId: 'n',
    rows: 60,
    leftMs: 60_000,
    runningMs: 0,
    yields: 0,
    ...over,
  };
}

const FULL = candidate('n', { models: [MODEL], leasesActive: LEASES_AHEAD, rowsUnaccepted: 120 });
const nodeOf = (node: Candidate) => (): Candidate => node;
const late = { deadlineInMs: 24 * HOUR_MS };

describe('work makes room', () => {
  const low = running(job('low', { ask: late }));
  const asks = (waiting: JobStanding, lease: Partial<RunningLease> = {}, node = FULL): string | undefined =>
    leaseToYield(waiting, [{ ...low, ...lease }], nodeOf(node))?.leaseId;

  it('for what has a higher priority or pays twice as much, and comes first in the order of urgency', () => {
    expect(asks(job('high', { priority: 1 }))).toBe('low-1');
    expect(asks(job('rich', { cap: 200n }))).toBe('low-1');
    expect(asks(job('rich', { cap: 199n }))).toBeUndefined();
    expect(asks(job('equal'))).toBeUndefined();
    expect(asks(job('rich', { cap: 900n }), { priority: 1 })).toBeUndefined();
    // It would take the room again itself.
    expect(asks(job('later', { priority: 3, ask: { deadlineInMs: 48 * HOUR_MS } }))).toBeUndefined();
  });

  it('not when it is nearly done, was asked often enough, or its node would not do', () => {
    const high = job('high', { priority: 1 });
    expect(asks(high, { leftMs: YIELD_LEFT_MS - 1 })).toBeUndefined();
    expect(asks(high, { leftMs: null, runningMs: YIELD_LEFT_MS })).toBe('low-1');
    expect(asks(high, { leftMs: null, runningMs: 0 })).toBeUndefined();
    expect(asks(high, { yields: YIELDS_MAX })).toBeUndefined();
    expect(asks(job('high', { priority: 1, ask: { regions: ['mars'] } }))).toBeUndefined();
    expect(asks(high, {}, { ...FULL, leasesActive: LEASES_AHEAD + 1 })).toBeUndefined();
  });

  it('the least valuable first', () => {
    const leases = [
      running(job('b', { cap: 50n, ask: late }), { leftMs: 20_000 }),
      running(job('c', { cap: 50n, ask: late })),
      running(job('a', { cap: 40n, priority: 1, ask: late })),
    ];
    expect(leaseToYield(job('high', { priority: 2 }), leases, nodeOf(FULL))?.leaseId).toBe('c-1');
  });

  it('for no one who would make room for it in turn, whatever the two are', () => {
    const rng = chance(11);
    let asked = 0;
    for (let i = 0; i < 5_000; i += 1) {
      const any = (id: string): JobStanding =>
        job(id, {
          priority: rng.below(4),
          cap: BigInt(1 + rng.below(400)),
          ageMs: rng.below(HOUR_MS),
          ask: { deadlineInMs: rng.below(2 * HOUR_MS) },
        });
      const [a, b] = [any('a'), any('b')];
      const forA = leaseToYield(a, [running(b)], nodeOf(FULL)) !== null;
      const forB = leaseToYield(b, [running(a)], nodeOf(FULL)) !== null;
      expect(forA && forB).toBe(false);
      if (!forA) continue;
      asked += 1;
      expect(slackMs(a)).toBeLessThan(slackMs(b));
      const isWorthMore = a.priority === b.priority && worthOf(a.ask) >= YIELD_WORTH_RATIO * worthOf(b.ask);
      expect(a.priority > b.priority || isWorthMore).toBe(true);
    }
    expect(asked).toBeGreaterThan(200);
  });

  it('without end to nobody: over random markets every job is done, and none yields more often than it may', () => {
    for (let seed = 1; seed <= 6; seed += 1) expect(playedOut(seed)).toEqual({ left: 0, overAsked: 0 });
  });
});

interface Play {
  readonly standing: JobStanding;
  readonly comesAtMs: number;
  left: number;
  yields: number;
}

/** Slots that run one lease each; jobs of any value come; a lease is sixty seconds, and loses what it did since its last second. */
function playedOut(seed: number): { left: number; overAsked: number } {
  const rng = chance(seed);
  const jobs = Array.from({ length: 30 }, (_, i): Play => ({
    standing: job(`job-${i}`, {
      priority: rng.below(4),
      cap: BigInt(1 + rng.below(400)),
      ask: { deadlineInMs: HOUR_MS * (1 + rng.below(24)) },
    }),
    comesAtMs: rng.below(600_000),
    left: 1 + rng.below(240),
    yields: 0,
  }));
  const slots: { play: Play; rows: number; sinceMs: number }[] = [];
  for (let nowMs = 0; nowMs < 6 * HOUR_MS && jobs.some(({ left }) => left > 0); nowMs += 1_000) {
    const at = ({ standing, comesAtMs }: Play): JobStanding => ({
      ...standing,
      ageMs: nowMs - comesAtMs,
      ask: { ...standing.ask, deadlineInMs: standing.ask.deadlineInMs - (nowMs - comesAtMs) },
    });
    for (const slot of slots) {
      slot.rows -= 1;
      slot.play.left -= 1;
    }
    for (let i = slots.length - 1; i >= 0; i -= 1) if ((slots[i]?.rows ?? 0) <= 0) slots.splice(i, 1);
    const idle = jobs
      .filter((play) => play.comesAtMs <= nowMs && play.left > 0 && !slots.some((slot) => slot.play === play))
      .sort((a, b) => byUrgency(at(a), at(b)));
    for (const play of idle) {
      if (slots.length < 3) slots.push({ play, rows: Math.min(60, play.left), sinceMs: nowMs });
      else {
        const leases = slots.map((slot) =>
          running(at(slot.play), {
            leftMs: slot.rows * 1_000,
            yields: slot.play.yields,
            runningMs: nowMs - slot.sinceMs,
          }),
        );
        const found = leaseToYield(at(play), leases, nodeOf(FULL));
        const slot = slots[leases.findIndex((lease) => lease === found)];
        if (slot === undefined) continue;
        slot.play.yields += 1;
        slots.splice(slots.indexOf(slot), 1, { play, rows: Math.min(60, play.left), sinceMs: nowMs });
      }
    }
  }
  return {
    left: jobs.filter(({ left }) => left > 0).length,
    overAsked: jobs.filter(({ yields }) => yields > YIELDS_MAX).length,
  };
}
