import { beforeEach, describe, expect, it } from '@jest/globals';
import { ANYWHERE, EMPTY_NODE, LEASES_AHEAD, type Candidate, type Demand } from '@freehold/domain';
import type { GrantedLease } from './ports/lease-store.ts';
import { RoomMaking, WAIT_FOR_ROOM_MS, YIELD_MS } from './room-making.ts';

const HOUR_MS = 3_600_000;
const MODEL = {
  name: 'm',
  digest: 'd',
  engineClass: 'c',
  loaded: true,
  rates: { embeddingToken: 1n },
  rowsPerSecond: 1,
};
const NODE: Candidate = { ...EMPTY_NODE, nodeId: 'n', models: [MODEL], leasesActive: LEASES_AHEAD };

function demand(jobId: string, over: Partial<Demand> & { readonly hours?: number } = {}): Demand {
  const { hours = 24, ...more } = over;
  const caps = { rateCaps: { embeddingToken: 10n }, deadlineInMs: hours * HOUR_MS };
  return {
    ask: { ...ANYWHERE, jobId, model: 'm', verify: 'spot', ...caps },
    ageMs: WAIT_FOR_ROOM_MS,
    nextRow: 0,
    rowCount: 100,
    queued: [],
    ...more,
  };
}

function lease(jobId: string, task = jobId): GrantedLease {
  const made = { task, epoch: 1, jobId, nodeId: 'n', nonce: '0x', model: 'm', digest: 'd', engineClass: 'c' };
  return { ...made, rates: {}, rowFrom: 0, rowTo: 60 };
}

describe('room for a job that waits', () => {
  let asked: string[];
  let room: RoomMaking;
  let nowMs: number;
  let isHere: boolean;

  beforeEach(() => {
    asked = [];
    nowMs = 0;
    isHere = true;
    room = new RoomMaking({
      clock: { nowMs: () => nowMs },
      candidate: () => NODE,
      askToYield: ({ task }) => isHere && asked.push(task) > 0,
    });
    room.began(lease('low', 'low-1'), demand('low'));
    room.began(lease('low', 'low-2'), demand('low'));
  });

  it('is one lease of work of lower value, asked for once, and again only when that lease is over', () => {
    const high = demand('high', { priority: 2 });
    room.make([high]);
    room.make([high]);
    expect(asked).toEqual(['low-1']);
    room.ended({ task: 'low-1', epoch: 1 });
    room.make([high]);
    expect(asked).toEqual(['low-1', 'low-2']);
  });

  it('is not asked for by what just came, by what runs already, or for what is as good', () => {
    room.make([demand('new', { priority: 2, ageMs: WAIT_FOR_ROOM_MS - 1 }), demand('equal', { hours: 1 })]);
    room.began(lease('high'), demand('high', { priority: 2 }));
    room.make([demand('high', { priority: 2 })]);
    expect(asked).toEqual([]);
  });

  it('is no job’s more than three times, so that everything is done one day', () => {
    for (let i = 0; i < 20; i += 1) {
      room.make([demand(`high-${i}`, { priority: 3 })]);
      for (const task of asked) room.ended({ task, epoch: 1 });
      room.began(lease('low', `again-${i}`), demand('low'));
    }
    expect(asked).toHaveLength(3);
  });

  it('is not made by a lease that is nearly over', () => {
    nowMs = 51_000;
    room.make([demand('high', { priority: 2 })]);
    expect(asked).toEqual([]);
  });

  it('is not hindered by nodes that keep their leases all the same: others are asked, and none of those again', () => {
    for (let i = 0; i < 8; i += 1) {
      room.began(lease(`deaf-${i}`), demand(`deaf-${i}`));
      room.make([demand(`high-${i}`, { priority: 2 })]);
    }
    expect(asked).toHaveLength(8);
    const late = demand('late', { priority: 2 });
    nowMs = YIELD_MS - 1;
    room.make([late]);
    expect(asked).toHaveLength(8);
    nowMs = YIELD_MS;
    room.make([late]);
    expect(new Set(asked).size).toBe(9);
  });

  it('counts as asked for only when the node was there to hear it', () => {
    isHere = false;
    const high = demand('high', { priority: 2 });
    for (let i = 0; i < 4; i += 1) room.make([high]);
    isHere = true;
    room.make([high]);
    expect(asked).toEqual(['low-1']);
  });
});
