import { describe, expect, it } from '@jest/globals';
import { CommitUnknownError } from './database-errors.ts';
import { Window } from './window.ts';

/** Doubles numbers, and keeps what each flush carried. 13 breaks whatever it is in; 99 loses the connection at COMMIT. */
function doubling(windowMs = 2): { window: Window<number, number>; flushes: number[][] } {
  const flushes: number[][] = [];
  const run = async (items: readonly number[]): Promise<readonly number[]> => {
    flushes.push([...items]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (items.includes(99)) throw new CommitUnknownError(new Error('gone'));
    if (items.includes(13)) throw new Error('13 is refused');
    return items.map((item) => item * 2);
  };
  return { window: new Window(run, { windowMs, weightMax: 5, weightOf: () => 1 }), flushes };
}

describe('calls within one window', () => {
  it('are done as one, each with its own answer, and what comes meanwhile is the next', async () => {
    const { window, flushes } = doubling();
    const first = [1, 2, 3].map((item) => window.add(item));
    while (flushes.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const later = [4, 5].map((item) => window.add(item));
    expect(await Promise.all([...first, ...later])).toEqual([2, 4, 6, 8, 10]);
    expect(flushes).toEqual([
      [1, 2, 3],
      [4, 5],
    ]);
  });

  it('do not wait for others when they come alone', async () => {
    const { window, flushes } = doubling(60_000);
    const first = window.add(1);
    expect(await first).toBe(2);
    expect(flushes).toEqual([[1]]);
  });

  it('are several flushes when there are more than one carries', async () => {
    const { window, flushes } = doubling();
    await Promise.all(Array.from({ length: 12 }, (_, i) => window.add(i)));
    expect(flushes.map(({ length }) => length)).toEqual([5, 5, 2]);
  });

  it('are done alone when one of them broke the flush, so that its fault is nobody else’s', async () => {
    const { window } = doubling();
    const calls = await Promise.allSettled([1, 13, 3].map((item) => window.add(item)));
    expect(calls.map((call) => (call.status === 'fulfilled' ? call.value : String(call.reason)))).toEqual([
      2,
      'Error: 13 is refused',
      6,
    ]);
  });

  it('are all told when nobody knows whether they were committed, and none is done twice', async () => {
    const { window, flushes } = doubling();
    const calls = await Promise.allSettled([1, 99].map((item) => window.add(item)));
    expect(calls.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(flushes).toEqual([[1, 99]]);
  });

  it('are each for themselves without a window', async () => {
    const { window, flushes } = doubling(0);
    expect(await Promise.all([1, 2].map((item) => window.add(item)))).toEqual([2, 4]);
    expect(flushes).toEqual([[1], [2]]);
  });
});
