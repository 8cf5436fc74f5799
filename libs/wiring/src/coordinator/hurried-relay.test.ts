import { describe, expect, it } from '@jest/globals';
import type { Outbox, WorkQueue } from '@freehold/market';
import { HurriedRelay } from './hurried-relay.ts';

function relayOver(turn: () => Promise<number>): { relay: HurriedRelay; reports: string[] } {
  const reports: string[] = [];
  const ports = { outbox: { relay: turn }, queue: {} } as unknown as { outbox: Outbox; queue: WorkQueue };
  return { relay: new HurriedRelay(ports, (error) => reports.push(String(error))), reports };
}

describe('a relay in a hurry', () => {
  it('takes one turn at a time, and one more for all that was filed meanwhile', async () => {
    let [turns, atOnce, most] = [0, 0, 0];
    const { relay } = relayOver(async () => {
      turns += 1;
      most = Math.max(most, (atOnce += 1));
      await new Promise(setImmediate);
      atOnce -= 1;
      return 1;
    });
    relay.hurry();
    for (let i = 0; i < 5; i += 1) relay.hurry();
    await relay.settled();
    // The first turn began before the others asked.
    expect({ turns, most }).toEqual({ turns: 2, most: 1 });
    relay.hurry();
    await relay.settled();
    expect(turns).toBe(3);
  });

  it('leaves what fails to the scheduler, and goes on with the next', async () => {
    let turns = 0;
    const { relay, reports } = relayOver(() => {
      turns += 1;
      return turns === 1 ? Promise.reject(new Error('the queue is away')) : Promise.resolve(1);
    });
    relay.hurry();
    await relay.settled();
    relay.hurry();
    await relay.settled();
    expect({ turns, reports }).toEqual({ turns: 2, reports: ['Error: the queue is away'] });
  });
});
