import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  ANYWHERE,
  EMPTY_NODE,
  LEASES_AHEAD,
  STRAGGLER_MS,
  STRAGGLER_TIMES,
  type Candidate,
  type Demand,
} from '@freehold/domain';
import type { GrantedLease } from './ports/lease-store.ts';
import { STRAGGLED, Stragglers } from './stragglers.ts';

const ROWS = 60;
const SECOND_MS = 1_000;
const DAY_MS = 86_400_000;
const MODEL = {
  name: 'm',
  digest: 'd',
  engineClass: 'c',
  loaded: true,
  rates: { embeddingToken: 1n },
  rowsPerSecond: 1,
};
const node = (nodeId: string, over: Partial<Candidate> = {}): Candidate => ({
  ...EMPTY_NODE,
  nodeId,
  models: [MODEL],
  ...over,
});
const BUSY = { leasesActive: LEASES_AHEAD };

function demand(jobId: string, over: Partial<Demand> = {}): Demand {
  const caps = { rateCaps: { embeddingToken: 10n }, deadlineInMs: DAY_MS };
  const ask = { ...ANYWHERE, jobId, model: 'm', verify: 'spot' as const, ...caps };
  return { ask, ageMs: 0, nextRow: ROWS, rowCount: ROWS, queued: [], ...over };
}

function lease(jobId: string, task: string, nodeId: string, rowFrom = 0): GrantedLease {
  const made = { task, epoch: 1, jobId, nodeId, nonce: '0x', model: 'm', digest: 'd', engineClass: 'c' };
  return { ...made, rates: {}, rowFrom, rowTo: rowFrom + ROWS };
}

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
    stragglers.began(lease(jobId, `${jobId}-done`, 'other', 1_000), demand(jobId));
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
    stragglers.began(lease('job', 'last', 'slow'), demand('job'));
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
    for (const jobId of ['long', 'alone']) stragglers.began(lease(jobId, jobId, 'slow'), demand(jobId));
    stragglers.ended({ task: 'last', epoch: 1 });
    expect(lookAt(STRAGGLER_TIMES * 60 * SECOND_MS - 1)).toEqual([]);
  });

  it('is left alone while rows of its job wait, near its end, and when it is a run of segments', () => {
    open = ['job'];
    expect(lookAt(DAY_MS / 2)).toEqual([]);
    open = [];
    stragglers.progressed({ task: 'last', epoch: 1 }, ROWS);
    expect(lookAt(DAY_MS / 2 + SECOND_MS)).toEqual([]);
    stragglers.began(lease('job', 'run', 'slow', 500), demand('job', { isRun: true }));
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
      stragglers.began(lease(`job-${i}`, `late-${i}`, `slow-${i}`), demand(`job-${i}`));
    }
    lookAt(2 * STRAGGLER_MS);
    lookAt(2 * STRAGGLER_MS + SECOND_MS);
    expect(asked).toHaveLength(LEASES_AHEAD);
  });

  it('is not passed around: rows that were handed on once are left where they are', () => {
    expect(lookAt(2 * STRAGGLER_MS)).toHaveLength(1);
    stragglers.ended({ task: 'last', epoch: 1 });
    stragglers.began(lease('job', 'rest', 'free', 20), demand('job'));
    free = [node('slow'), node('third')];
    expect(lookAt(20 * STRAGGLER_MS)).toHaveLength(1);
  });
});
