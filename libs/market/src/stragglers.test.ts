import { beforeEach, describe, expect, it } from '@jest/globals';
import { LEASES_AHEAD, STRAGGLER_MS, STRAGGLER_TIMES, type Candidate, type Demand } from '@freehold/domain';
import { demand, HOUR_MS, lease, MODEL, node, ROWS } from './running-leases.fixture.ts';
import { STRAGGLED, Stragglers } from './stragglers.ts';

const SECOND_MS = 1_000;
const DAY_MS = 24 * HOUR_MS;
const BUSY = { leasesActive: LEASES_AHEAD };
/** A job whose last rows are at work: none waits. */
const ending = (jobId: string, over: Partial<Demand> = {}): Demand => demand(jobId, { nextRow: ROWS, ...over });

describe('a lease of a job’s last rows', () => {
  let asked: string[];
  let stragglers: Stragglers;
  let nowMs: number;
  let free: Candidate[];
  let open: string[];

  /** After so long from the beginning. */
  const lookAt = (ms: number): readonly string[] => {
    nowMs = ms;
    stragglers.relieve(
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
    stragglers.progressed({ task: `${jobId}-done`, epoch: 1 }, ROWS);
    stragglers.ended({ task: `${jobId}-done`, epoch: 1 });
    nowMs = before;
  };

  beforeEach(() => {
    asked = [];
    open = [];
    nowMs = 0;
    free = [node('slow', BUSY), node('free')];
    stragglers = new Stragglers({
      clock: { nowMs: () => nowMs },
      askToYield: ({ task }, why) => asked.push(`${task}: ${why}`) > 0,
    });
    doneElsewhere('job', SECOND_MS);
    stragglers.began(lease('job', { task: 'last', nodeId: 'slow' }), ending('job'));
  });

  it('is handed on once its rows take four times those of other nodes, and asked for once', () => {
    stragglers.progressed({ task: 'last', epoch: 1 }, 8);
    expect(lookAt(STRAGGLER_MS)).toEqual([]);
    expect(lookAt(8 * STRAGGLER_TIMES * SECOND_MS - 1)).toEqual([]);
    lookAt(8 * STRAGGLER_TIMES * SECOND_MS + SECOND_MS);
    expect(lookAt(10 * STRAGGLER_MS)).toEqual([`last: ${STRAGGLED}`]);
  });

  it('is left to finish where rows of the job last as long elsewhere, or nobody knows how long they last', () => {
    doneElsewhere('long', 60 * SECOND_MS);
    for (const jobId of ['long', 'alone'])
      stragglers.began(lease(jobId, { task: jobId, nodeId: 'slow' }), ending(jobId));
    stragglers.ended({ task: 'last', epoch: 1 });
    expect(lookAt(STRAGGLER_TIMES * 60 * SECOND_MS - 1)).toEqual([]);
  });

  it('is left alone while rows of its job wait, near its end, and when it is a run of segments', () => {
    open = ['job'];
    expect(lookAt(DAY_MS / 2)).toEqual([]);
    open = [];
    stragglers.progressed({ task: 'last', epoch: 1 }, ROWS);
    expect(lookAt(DAY_MS / 2 + SECOND_MS)).toEqual([]);
    stragglers.began(lease('job', { task: 'run', nodeId: 'slow', rowFrom: 500 }), ending('job', { isRun: true }));
    expect(lookAt(DAY_MS)).toEqual([]);
  });

  it.each([
    ['its own', [node('slow')]],
    ['taken', [node('free', BUSY)]],
    ['one that has to load the model', [node('free', { models: [{ ...MODEL, loaded: false }] })]],
  ])('is left alone while the only place is %s', (_, places) => {
    free = places;
    expect(lookAt(10 * STRAGGLER_MS)).toEqual([]);
  });

  it('costs a free place each: one node that comes does not make a whole market yield', () => {
    for (let i = 0; i < 50; i += 1) {
      doneElsewhere(`job-${i}`, SECOND_MS);
      stragglers.began(lease(`job-${i}`, { task: `late-${i}`, nodeId: `slow-${i}` }), ending(`job-${i}`));
    }
    lookAt(2 * STRAGGLER_MS);
    lookAt(2 * STRAGGLER_MS + SECOND_MS);
    expect(asked).toHaveLength(LEASES_AHEAD);
  });

  it('is not passed around: rows that were handed on once are left where they are', () => {
    expect(lookAt(2 * STRAGGLER_MS)).toHaveLength(1);
    stragglers.ended({ task: 'last', epoch: 1 });
    stragglers.began(lease('job', { task: 'rest', nodeId: 'free', rowFrom: 20 }), ending('job'));
    free = [node('slow'), node('third')];
    expect(lookAt(20 * STRAGGLER_MS)).toHaveLength(1);
  });
});
