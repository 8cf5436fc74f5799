import { beforeEach, describe, expect, it } from '@jest/globals';
import { LEASES_AHEAD, type Demand } from '@freehold/domain';
import { RoomMaking, WAIT_FOR_ROOM_MS, YIELD_MS } from './room-making.ts';
import { demand, lease, node } from './running-leases.fixture.ts';

const NODE = node('n', { leasesActive: LEASES_AHEAD });
const waiting = (jobId: string, over: Parameters<typeof demand>[1] = {}): Demand =>
  demand(jobId, { ageMs: WAIT_FOR_ROOM_MS, rowCount: 100, ...over });

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
    room.began(lease('low', { task: 'low-1' }), waiting('low'));
    room.began(lease('low', { task: 'low-2' }), waiting('low'));
  });

  it('is one lease of work of lower value, asked for once, and again only when that lease is over', () => {
    const high = waiting('high', { priority: 2 });
    room.make([high]);
    room.make([high]);
    expect(asked).toEqual(['low-1']);
    room.ended({ task: 'low-1', epoch: 1 });
    room.make([high]);
    expect(asked).toEqual(['low-1', 'low-2']);
  });

  it('is not asked for by what just came, by what runs already, or for what is as good', () => {
    room.make([waiting('new', { priority: 2, ageMs: WAIT_FOR_ROOM_MS - 1 }), waiting('equal', { hours: 1 })]);
    room.began(lease('high'), waiting('high', { priority: 2 }));
    room.make([waiting('high', { priority: 2 })]);
    expect(asked).toEqual([]);
  });

  it('is no job’s more than three times, so that everything is done one day', () => {
    for (let i = 0; i < 20; i += 1) {
      room.make([waiting(`high-${i}`, { priority: 3 })]);
      for (const task of asked) room.ended({ task, epoch: 1 });
      room.began(lease('low', { task: `again-${i}` }), waiting('low'));
    }
    expect(asked).toHaveLength(3);
  });

  it('is not made by a lease that is nearly over', () => {
    nowMs = 51_000;
    room.make([waiting('high', { priority: 2 })]);
    expect(asked).toEqual([]);
  });

  it('is not hindered by nodes that keep their leases all the same: others are asked, and none of those again', () => {
    for (let i = 0; i < 8; i += 1) {
      room.began(lease(`deaf-${i}`), waiting(`deaf-${i}`));
      room.make([waiting(`high-${i}`, { priority: 2 })]);
    }
    expect(asked).toHaveLength(8);
    const late = waiting('late', { priority: 2 });
    nowMs = YIELD_MS - 1;
    room.make([late]);
    expect(asked).toHaveLength(8);
    nowMs = YIELD_MS;
    room.make([late]);
    expect(new Set(asked).size).toBe(9);
  });

  it('counts as asked for only when the node was there to hear it', () => {
    isHere = false;
    const high = waiting('high', { priority: 2 });
    for (let i = 0; i < 4; i += 1) room.make([high]);
    isHere = true;
    room.make([high]);
    expect(asked).toEqual(['low-1']);
  });
});
