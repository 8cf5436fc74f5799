import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  ATTEMPTS_MAX,
  LEASES_AHEAD,
  STRAGGLER_MS,
  STRAGGLER_TIMES,
  YIELD_FLOOR_MS,
  type Candidate,
  type Demand,
} from '@freehold/domain';
import { demand, HOUR_MS, lease, MODEL, node, ROWS } from './running-leases.fixture.ts';
import { KEPT_MAX, STRAGGLED, Stragglers } from './stragglers.ts';

const SECOND_MS = 1_000;
const DAY_MS = 24 * HOUR_MS;
const LAST = { task: 'last', epoch: 1 };
const BUSY = { leasesActive: LEASES_AHEAD };
/** A job whose last rows are at work: none waits. */
const ending = (jobId: string, over: Partial<Demand> = {}): Demand => demand(jobId, { nextRow: ROWS, ...over });

describe('a lease of a job’s last rows', () => {
  let asked: string[];
  /** Until when each of these is extended, from when it was asked for. */
  let ends: [string, number][];
  /** Of what is to be written about them. */
  let write: () => Promise<void>;
  let stragglers: Stragglers;
  let nowMs: number;
  let free: Candidate[];
  let open: string[];

  /** After so long from the beginning. */
  const lookAt = async (ms: number): Promise<readonly string[]> => {
    nowMs = ms;
    await stragglers.relieve(
      (jobId) => open.includes(jobId),
      () => free,
    );
    return asked;
  };
  /** A lease of the job that went well on another node, at this pace. */
  const doneElsewhere = (jobId: string, rowMs: number): void => {
    stragglers.began(lease(jobId, { task: `${jobId}-done`, nodeId: 'other', rowFrom: 1_000 }), ending(jobId));
    const before = nowMs;
    nowMs += ROWS * rowMs;
    stragglers.signed({ task: `${jobId}-done`, epoch: 1 }, ROWS);
    stragglers.ended({ task: `${jobId}-done`, epoch: 1 }, { end: 'committed' });
    nowMs = before;
  };

  beforeEach(() => {
    asked = [];
    ends = [];
    write = async () => undefined;
    open = [];
    nowMs = 0;
    free = [node('slow', BUSY), node('free')];
    stragglers = new Stragglers({
      clock: { nowMs: () => nowMs },
      leases: {
        yieldWithin: async ({ task }, withinMs) => {
          await write();
          ends.push([task, withinMs]);
          return { moved: true };
        },
      },
      askToYield: ({ task }, why) => asked.push(`${task}: ${why}`) > 0,
    });
    doneElsewhere('job', SECOND_MS);
    stragglers.began(lease('job', { task: 'last', nodeId: 'slow' }), ending('job'));
  });

  it('is handed on once its rows take four times those of other nodes, and asked for once', async () => {
    stragglers.signed(LAST, 8);
    expect(await lookAt(STRAGGLER_MS)).toEqual([]);
    expect(await lookAt(8 * STRAGGLER_TIMES * SECOND_MS - 1)).toEqual([]);
    await lookAt(8 * STRAGGLER_TIMES * SECOND_MS + SECOND_MS);
    expect(await lookAt(10 * STRAGGLER_MS)).toEqual([`last: ${STRAGGLED}`]);
  });

  it('is extended for what its rest takes elsewhere and no longer, with time to hand it back for whoever is slower', async () => {
    stragglers.signed(LAST, 4);
    await lookAt(2 * STRAGGLER_MS);
    expect(ends).toEqual([['last', YIELD_FLOOR_MS + (ROWS - 4) * SECOND_MS]]);
  });

  it('is asked for again when nobody could write until when, and not when it came back meanwhile', async () => {
    write = () => Promise.reject(new Error('away'));
    await expect(lookAt(2 * STRAGGLER_MS)).rejects.toThrow('away');
    write = async () => stragglers.ended(LAST, { end: 'yielded' });
    await lookAt(2 * STRAGGLER_MS + SECOND_MS);
    await lookAt(10 * STRAGGLER_MS);
    expect([asked.length, ends.length]).toEqual([2, 1]);
    // What is handed back at once is handed on once all the same.
    stragglers.began(lease('job', { task: 'rest', nodeId: 'free', rowFrom: 4 }), ending('job'));
    free = [node('slow'), node('third')];
    expect(await lookAt(20 * STRAGGLER_MS)).toHaveLength(2);
  });

  it('is asked for beside others at once: none waits for what is written of another, or ends meanwhile and is asked in vain', async () => {
    free = ['free', 'other', 'third'].map((id) => node(id));
    for (const [i, task] of ['second', 'third'].entries())
      stragglers.began(lease('job', { task, nodeId: 'slow', rowFrom: (i + 1) * ROWS }), ending('job'));
    let unlock = (): void => undefined;
    const locked = new Promise<void>((resolve) => (unlock = resolve));
    write = () => locked;
    const written = lookAt(2 * STRAGGLER_MS);
    expect(asked).toHaveLength(3);
    for (const task of ['last', 'second', 'third']) stragglers.ended({ task, epoch: 1 }, { end: 'yielded' });
    unlock();
    await written;
    // None of them is waited for any more, and none counts as asked and deaf.
    write = async () => undefined;
    for (let i = 0; i < 8; i += 1) {
      doneElsewhere(`job-${i}`, SECOND_MS);
      stragglers.began(lease(`job-${i}`, { task: `late-${i}`, nodeId: `slow-${i}` }), ending(`job-${i}`));
    }
    free = Array.from({ length: 8 }, (_, i) => node(`free-${i}`));
    expect(await lookAt(4 * STRAGGLER_MS)).toHaveLength(11);
  });

  it('is left to finish where rows of the job last as long elsewhere, or nobody knows how long they last', async () => {
    doneElsewhere('long', 60 * SECOND_MS);
    for (const jobId of ['long', 'alone'])
      stragglers.began(lease(jobId, { task: jobId, nodeId: 'slow' }), ending(jobId));
    stragglers.ended(LAST, { end: 'yielded' });
    expect(await lookAt(STRAGGLER_TIMES * 60 * SECOND_MS - 1)).toEqual([]);
  });

  it('is left alone while rows of its job wait, near its end, and when it is a run of segments', async () => {
    open = ['job'];
    expect(await lookAt(DAY_MS / 2)).toEqual([]);
    open = [];
    stragglers.signed(LAST, ROWS);
    expect(await lookAt(DAY_MS / 2 + SECOND_MS)).toEqual([]);
    stragglers.began(lease('job', { task: 'run', nodeId: 'slow', rowFrom: 500 }), ending('job', { isRun: true }));
    expect(await lookAt(DAY_MS)).toEqual([]);
  });

  it.each([
    ['its own', [node('slow')]],
    ['taken', [node('free', BUSY)]],
    ['one that has to load the model', [node('free', { models: [{ ...MODEL, loaded: false }] })]],
  ])('is left alone while the only place is %s', async (_, places) => {
    free = places;
    expect(await lookAt(10 * STRAGGLER_MS)).toEqual([]);
  });

  it('costs a free place each: one node that comes does not make a whole market yield', async () => {
    for (let i = 0; i < 50; i += 1) {
      doneElsewhere(`job-${i}`, SECOND_MS);
      stragglers.began(lease(`job-${i}`, { task: `late-${i}`, nodeId: `slow-${i}` }), ending(`job-${i}`));
    }
    await lookAt(2 * STRAGGLER_MS);
    await lookAt(2 * STRAGGLER_MS + SECOND_MS);
    expect(asked).toHaveLength(LEASES_AHEAD);
  });

  it('is not passed around: rows that were handed on once are left where they are', async () => {
    expect(await lookAt(2 * STRAGGLER_MS)).toHaveLength(1);
    stragglers.ended(LAST, { end: 'yielded' });
    stragglers.began(lease('job', { task: 'rest', nodeId: 'free', rowFrom: 20 }), ending('job'));
    free = [node('slow'), node('third')];
    expect(await lookAt(20 * STRAGGLER_MS)).toHaveLength(1);
  });

  it('is asked for again of each node that keeps it, but not for ever', async () => {
    const asks: number[] = [];
    let part = LAST;
    for (let i = 1; i <= ATTEMPTS_MAX; i += 1) {
      asks.push((await lookAt(i * 4 * STRAGGLER_MS)).length);
      nowMs += YIELD_FLOOR_MS;
      expect(stragglers.lost(part)).toBe(i <= KEPT_MAX);
      stragglers.ended(part, { end: 'cut' });
      part = { task: 'last', epoch: 1 + i };
      stragglers.began(lease('job', { ...part, nodeId: `mute-${i}` }), ending('job'));
    }
    expect(asks).toEqual([1, 2, 3, 4, 4, 4, 4, 4]);
  });

  it('was not kept by who had no time yet to hand it back: its job is over', async () => {
    await lookAt(2 * STRAGGLER_MS);
    nowMs += YIELD_FLOOR_MS - 1;
    expect(stragglers.lost(LAST)).toBe(false);
  });

  it('is not passed around when its node signed on, and had no time for the rest', async () => {
    expect(await lookAt(2 * STRAGGLER_MS)).toHaveLength(1);
    stragglers.signed(LAST, 1);
    expect(stragglers.lost(LAST)).toBe(false);
    stragglers.began(lease('job', { task: 'rest', nodeId: 'mute', rowFrom: 1 }), ending('job'));
    expect(await lookAt(20 * STRAGGLER_MS)).toHaveLength(1);
  });

  it('has its time from its beginning, however often its stream breaks; who breaks it for good has nothing to be asked', async () => {
    stragglers.began(lease('job', { task: 'gone', nodeId: 'gone', rowFrom: 500 }), ending('job'));
    for (const part of [LAST, { task: 'gone', epoch: 1 }]) stragglers.ended(part, { end: 'cut' });
    stragglers.resumed(LAST);
    free = [];
    await lookAt(10 * STRAGGLER_MS);
    free = [node('free')];
    expect(await lookAt(10 * STRAGGLER_MS + SECOND_MS)).toEqual([`last: ${STRAGGLED}`]);
  });
});
