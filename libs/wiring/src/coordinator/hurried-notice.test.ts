import { describe, expect, it } from '@jest/globals';
import type { Topic } from '@freehold/market';
import { HurriedNotice } from './hurried-notice.ts';

function noticeOver(turn: (topic: Topic) => Promise<void>): { notice: HurriedNotice; reports: string[] } {
  const reports: string[] = [];
  return { notice: new HurriedNotice({ notify: turn }, (error) => reports.push(String(error))), reports };
}

describe('a notice in a hurry', () => {
  it('is given one at a time of each topic, and once more for all that was filed meanwhile', async () => {
    const turns: Topic[] = [];
    const { notice } = noticeOver(async (topic) => {
      turns.push(topic);
      await new Promise(setImmediate);
    });
    notice.hurry('validate');
    for (let i = 0; i < 5; i += 1) notice.hurry('validate');
    notice.hurry('place');
    await notice.settled();
    // The first turn began before the others asked.
    expect([...turns].sort()).toEqual(['place', 'validate', 'validate']);
    notice.hurry('validate');
    await notice.settled();
    expect(turns).toHaveLength(4);
  });

  it('is given for what is filed at any moment of another, also at its very end', async () => {
    for (let moment = 0; moment < 12; moment += 1) {
      const told: number[] = [];
      let filed = 1;
      const { notice } = noticeOver(async () => void told.push(filed));
      notice.hurry('place');
      for (let i = 0; i < moment; i += 1) await Promise.resolve();
      filed = 2;
      notice.hurry('place');
      await new Promise(setImmediate);
      expect({ moment, last: told.at(-1) }).toEqual({ moment, last: 2 });
    }
  });

  it('leaves what fails to the queue, and goes on with the next', async () => {
    let turns = 0;
    const { notice, reports } = noticeOver(() => {
      turns += 1;
      return turns === 1 ? Promise.reject(new Error('the database is away')) : Promise.resolve();
    });
    notice.hurry('place');
    await notice.settled();
    notice.hurry('place');
    await notice.settled();
    expect({ turns, reports }).toEqual({ turns: 2, reports: ['Error: the database is away'] });
  });
});
