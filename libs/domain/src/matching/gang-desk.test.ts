import { describe, expect, it } from '@jest/globals';
import type { Candidate } from './ask.ts';
import { chance } from './chance.ts';
import { LEASES_AHEAD } from './constraints.ts';
import type { Demand, Placement } from './demand.ts';
import {
  RESERVATION_AHEAD_MAX_MS,
  RESERVATION_GRACE_MS,
  RETRY_MS,
  RESERVATIONS_MAX,
  type Moment,
} from './gang-desk.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { Placer } from './placer.ts';

const MODEL = {
  ...{ name: 'm', digest: 'd', engineClass: 'c', loaded: true },
  ...{ rates: { embeddingToken: 1n }, rowsPerSecond: 2 },
};
const STEP_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

const node = (id: string, over: Partial<Candidate> = {}): Candidate =>
  candidate(id, { models: [MODEL], rowsAccepted: 100, ...over });

function job(jobId: string, rows: number, over: Partial<Demand> = {}): Demand {
  const ask = askFor({ jobId, model: 'm', rateCaps: { embeddingToken: 100n }, deadlineInMs: 24 * HOUR_MS });
  return { ask, ageMs: 0, nextRow: 0, rowCount: rows, queued: [], ...over };
}

const gang = (members: number, jobId = 'gang'): Demand => job(jobId, 4 * members, { gang: members, ageMs: 10 });
/** Enough work for every slot, always. */
const stream = (): Demand => job('stream', 1_000_000, { ageMs: HOUR_MS });

interface Work {
  readonly nodeId: string;
  readonly jobId: string;
  readonly expectedMs: number;
  readonly endsAtMs: number;
}

/** Nodes that work through their leases, in times that differ from what was expected of them. */
class Fleet {
  readonly placer: Placer;
  nowMs = 0;
  work: Work[] = [];
  readonly #nodes = new Map<string, Candidate>();
  /** What a lease takes of what was expected. */
  readonly #takes: () => number;
  waits: (jobId: string) => boolean = () => true;

  constructor(count: number, takes: () => number = () => 1, seed = 0) {
    this.placer = new Placer(seed);
    this.#takes = takes;
    for (let id = 0; id < count; id += 1) this.#nodes.set(`n${id}`, node(`n${id}`));
    this.put();
  }

  put(): void {
    for (const [id, one] of this.#nodes)
      this.placer.put({ ...one, leasesActive: this.work.filter(({ nodeId }) => nodeId === id).length });
  }

  change(id: string, over: Partial<Candidate>): void {
    this.#nodes.set(id, node(id, over));
    this.put();
  }

  /** The moment as a scheduler knows it: by what it expected. */
  moment(): Moment {
    const freeInMs = ({ nodeId, leasesActive }: Candidate): number => {
      const ends = this.work.filter((one) => one.nodeId === nodeId).map(({ expectedMs }) => expectedMs);
      const last = Math.max(0, ...ends) - this.nowMs;
      return last > 0 ? last : leasesActive > 0 ? STEP_MS : 0;
    };
    return { nowMs: this.nowMs, freeInMs, waits: this.waits };
  }

  decide(demands: readonly Demand[], isKeeping = true): readonly Placement[] {
    const placed = this.placer.place(demands, Number.POSITIVE_INFINITY, isKeeping ? this.moment() : null);
    for (const { nodeId, jobId, rowFrom, rowTo } of placed) this.#begin(nodeId, jobId, ((rowTo - rowFrom) / 2) * 1_000);
    this.put();
    return placed;
  }

  run(nodeId: string, jobId: string, lastsMs: number): void {
    this.#begin(nodeId, jobId, lastsMs);
    this.put();
  }

  #begin(nodeId: string, jobId: string, lastsMs: number): void {
    const before = this.work.filter((one) => one.nodeId === nodeId);
    const from = (of: 'expectedMs' | 'endsAtMs'): number => Math.max(this.nowMs, ...before.map((one) => one[of]));
    const endsAtMs = from('endsAtMs') + lastsMs * this.#takes();
    this.work.push({ nodeId, jobId, expectedMs: from('expectedMs') + lastsMs, endsAtMs });
  }

  pass(ms: number): void {
    this.nowMs += ms;
    this.work = this.work.filter(({ endsAtMs }) => endsAtMs > this.nowMs);
    this.put();
  }
}

describe('a gang beside a stream of other work', () => {
  it('begins within a minute, whatever the seed and however wrong the estimates by half; and never where nothing is kept for it', () => {
    for (let seed = 1; seed <= 8; seed += 1) {
      for (const isKeeping of [true, false]) {
        const rng = chance(seed);
        const fleet = new Fleet(6, () => 0.5 + rng.below(100) / 100, seed);
        // Slots are out of step with each other, and all of them are taken.
        for (let id = 0; id < 6; id += 1) fleet.run(`n${id}`, 'before', 1_000 * (1 + rng.below(9)));
        let beganAtMs = Number.POSITIVE_INFINITY;
        for (; fleet.nowMs <= MINUTE_MS && beganAtMs === Number.POSITIVE_INFINITY; fleet.pass(STEP_MS)) {
          const placed = fleet.decide([stream(), gang(4)], isKeeping);
          const firsts = placed.filter(({ jobId }) => jobId === 'gang').slice(0, 4);
          if (firsts.length === 0) continue;
          expect(new Set(firsts.map(({ nodeId }) => nodeId)).size).toBe(4);
          beganAtMs = fleet.nowMs;
        }
        expect(beganAtMs <= MINUTE_MS).toBe(isKeeping);
        fleet.waits = () => false;
        fleet.decide([]);
        expect(fleet.placer.reservations()).toEqual([]);
      }
    }
  });

  it('keeps each node at most half of the time when it never begins, and others work there in between', () => {
    const fleet = new Fleet(3);
    fleet.run('n0', 'late', 24 * HOUR_MS);
    // Its estimate says that n0 is free in a minute, again and again.
    const lying: Moment['freeInMs'] = ({ nodeId }) => (nodeId === 'n0' ? MINUTE_MS : 0);
    let keptMs = 0;
    let steps = 0;
    for (; fleet.nowMs < HOUR_MS; fleet.nowMs += 5_000) {
      const demands = [gang(3), gang(3, 'gang-2'), gang(3, 'gang-3')];
      fleet.placer.place(demands, 100, { ...fleet.moment(), freeInMs: lying });
      const kept = new Set(fleet.placer.reservations().flatMap(({ nodeIds }) => nodeIds));
      if (kept.has('n2')) keptMs += 5_000;
      steps += 1;
    }
    expect(keptMs).toBeGreaterThan((steps * 5_000) / 4);
    expect(keptMs).toBeLessThanOrEqual((steps * 5_000) / 2 + 2 * MINUTE_MS);
  });
});

describe('a reservation', () => {
  it('is on the nodes that are free first, until some time after their leases are expected to end', () => {
    const fleet = new Fleet(3);
    fleet.run('n0', 'other', 40_000);
    fleet.run('n1', 'other', 10_000);
    fleet.run('n2', 'other', 20_000);
    expect(fleet.decide([gang(2)])).toEqual([]);
    const expected = {
      jobId: 'gang',
      nodeIds: ['n1', 'n2'],
      startsAtMs: 20_000,
      expiresAtMs: 20_000 + RESERVATION_GRACE_MS,
    };
    expect(fleet.placer.reservations()).toMatchObject([expected]);
    // It is not prolonged by those that come to it later.
    fleet.pass(15_000);
    expect(fleet.decide([gang(2)])).toEqual([]);
    expect(fleet.placer.reservations()).toMatchObject([expected]);
    fleet.pass(5_000);
    const begun = fleet.decide([gang(2), stream()]).filter(({ jobId }) => jobId === 'gang');
    expect(begun.slice(0, 2).map(({ nodeId }) => nodeId)).toEqual(['n1', 'n2']);
  });

  it('is on no node while the last of them is free too late, and begins when that is near', () => {
    const fleet = new Fleet(3);
    fleet.run('n0', 'other', RESERVATION_AHEAD_MAX_MS + 1_000);
    fleet.decide([gang(3)]);
    expect(fleet.placer.reservations()).toEqual([]);
    // Those behind it are looked at meanwhile.
    fleet.pass(RETRY_MS);
    fleet.decide([gang(3)]);
    expect(fleet.placer.reservations()).toMatchObject([{ startsAtMs: RESERVATION_AHEAD_MAX_MS + 1_000 }]);
  });

  it('is not prolonged by a start that is lost again and again before it is written', () => {
    const fleet = new Fleet(2);
    fleet.run('n0', 'other', 5_000);
    fleet.decide([gang(2)]);
    const expiresAtMs = 5_000 + RESERVATION_GRACE_MS;
    fleet.pass(5_000);
    for (; fleet.nowMs < expiresAtMs; fleet.pass(1_000)) {
      expect(fleet.decide([gang(2)])).not.toEqual([]);
      expect(fleet.placer.reservations()).toMatchObject([{ expiresAtMs }]);
      fleet.work = [];
      fleet.put();
    }
    fleet.work = [];
    fleet.run('n0', 'other', 5_000);
    fleet.decide([gang(2)]);
    expect(fleet.placer.reservations().map((one) => one.expiresAtMs)).not.toContain(expiresAtMs);
  });

  it('lets other work run under it that is over before its start, and nothing that is not', () => {
    const fleet = new Fleet(3);
    fleet.change('n2', { rowsAccepted: 0 });
    fleet.run('n0', 'other', 8_000);
    expect(fleet.decide([gang(3)])).toEqual([]);
    // Eight seconds at two rows a second, less a quarter; n2 has no record, so nobody knows how long it takes.
    const back = (rows: number) => [{ taskId: `t${rows}`, epoch: 2, rowFrom: 0, rowTo: rows, lastNode: null }];
    const returned = job('returned', 40, { nextRow: 40, queued: back(13) });
    const placed = fleet.decide([gang(3), returned, job('short', 500)]);
    expect(placed.map(({ nodeId, jobId, rowFrom, rowTo }) => [nodeId, jobId, rowTo - rowFrom])).toEqual([
      ['n1', 'short', 12],
    ]);
    fleet.pass(8_000);
    expect(fleet.decide([gang(3)]).map(({ nodeId }) => nodeId)).toEqual(['n0', 'n1', 'n2']);
  });

  it('never lends so much that its start is late, over random fleets whose work takes what was expected', () => {
    const rng = chance(21);
    let lent = 0;
    for (let round = 0; round < 100; round += 1) {
      const count = 3 + rng.below(4);
      const fleet = new Fleet(count, () => 1, rng.below(3));
      for (let id = 0; id < count; id += 1)
        for (let i = rng.below(LEASES_AHEAD + 1); i > 0; i -= 1)
          fleet.run(`n${id}`, 'other', 1_000 * (1 + rng.below(30)));
      const members = 2 + rng.below(count - 1);
      if (fleet.decide([gang(members)]).length > 0) continue;
      const [reservation] = fleet.placer.reservations();
      if (reservation === undefined) throw new Error('expected a reservation');
      let began = false;
      while (!began && fleet.nowMs < reservation.startsAtMs) {
        const placed = fleet.decide([gang(members), job('s', 100 + rng.below(400))]);
        began = placed.some(({ jobId }) => jobId === 'gang');
        for (const one of placed) if (!began && reservation.nodeIds.includes(one.nodeId)) lent += 1;
        if (!began) fleet.pass(Math.min(1_000, reservation.startsAtMs - fleet.nowMs));
      }
      if (!began) expect(fleet.decide([gang(members)])).not.toEqual([]);
    }
    expect(lent).toBeGreaterThan(50);
  });

  it('ends with its gang, keeps others for nodes that went away, and is no more than some at a time', () => {
    const fleet = new Fleet(4);
    for (const id of ['n0', 'n1', 'n2']) fleet.run(id, 'other', 10_000);
    fleet.run('n3', 'other', 30_000);
    fleet.decide([gang(3)]);
    fleet.pass(1_000);
    fleet.change('n1', { draining: true });
    fleet.decide([gang(3)]);
    expect(fleet.placer.reservations()).toMatchObject([
      { nodeIds: ['n0', 'n2', 'n3'], expiresAtMs: 10_000 + RESERVATION_GRACE_MS },
    ]);
    fleet.waits = () => false;
    fleet.pass(1_000);
    fleet.decide([]);
    expect(fleet.placer.reservations()).toEqual([]);
    // Who submits and cancels keeps nodes no longer than others have them in between.
    fleet.waits = () => true;
    fleet.decide([gang(3, 'next')]);
    expect(fleet.placer.reservations()).toEqual([]);
    const many = new Fleet(40);
    for (let id = 0; id < 40; id += 2) many.run(`n${id}`, 'other', 60_000);
    many.decide(Array.from({ length: 12 }, (_, i) => gang(3, `g${i}`)));
    expect(many.placer.reservations().length).toBeLessThanOrEqual(RESERVATIONS_MAX);
  });
});
