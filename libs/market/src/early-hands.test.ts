import { beforeEach, describe, expect, it } from '@jest/globals';
import { EarlyHands, RENEWALS_MAX } from './early-hands.ts';
import type { QueueMessage } from './ports/queue.ts';

describe('hands that take filed work early', () => {
  let filed: string[];
  let done: string[];
  let givenUp: string[];
  let kept: string[];
  let begun: string[];
  let reports: string[];
  let ends: Map<string, { readonly resolve: () => void; readonly reject: (error: Error) => void }>;
  let hands: EarlyHands;
  const signal = new AbortController().signal;
  const message = (outboxId: string): QueueMessage => ({ outboxId, ids: {} });
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 10; i += 1) await Promise.resolve();
  };

  beforeEach(() => {
    [filed, done, givenUp, kept, begun, reports, ends] = [[], [], [], [], [], [], new Map()];
    hands = new EarlyHands({
      outbox: {
        take: async (_topic, limit) => filed.splice(0, limit).map(message),
        done: async (ids) => void done.push(...ids),
        keep: async (ids) => void kept.push(...ids),
        giveUp: async (ids) => void givenUp.push(...ids),
      },
      topic: 'validate',
      handsMax: 2,
      handle: ({ outboxId }) => {
        begun.push(outboxId);
        return new Promise((resolve, reject) => ends.set(outboxId, { resolve, reject }));
      },
      report: (what) => reports.push(what),
    });
  });

  it('do as many at once as there are, and the next as soon as one is through', async () => {
    filed = ['a', 'b', 'c'];
    hands.look();
    hands.look();
    await settled();
    expect(begun).toEqual(['a', 'b']);
    ends.get('b')?.resolve();
    await settled();
    expect([done, begun]).toEqual([['b'], ['a', 'b', 'c']]);
  });

  it('give up what failed, so that it comes by the queue, and say why', async () => {
    filed = ['a'];
    hands.look();
    await settled();
    ends.get('a')?.reject(new Error('no such file'));
    await settled();
    expect([givenUp, done, reports]).toEqual([['a'], [], ['work of topic validate, taken early']]);
  });

  it('keep what takes them long from coming by the queue, and nothing that is done', async () => {
    await hands.renew();
    filed = ['a', 'b'];
    hands.look();
    await settled();
    ends.get('a')?.resolve();
    await settled();
    await hands.renew();
    expect(kept).toEqual(['b']);
    // Not for ever.
    for (let i = 0; i < 2 * RENEWALS_MAX; i += 1) await hands.renew();
    expect(kept).toEqual(Array.from({ length: RENEWALS_MAX }, () => 'b'));
  });

  it('do not look again where there was nothing more', async () => {
    filed = ['a'];
    hands.look();
    await settled();
    filed = ['b'];
    ends.get('a')?.resolve();
    await settled();
    expect([done, begun]).toEqual([['a'], ['a']]);
  });

  it('are waited for by the queue, whose message comes while they are at it', async () => {
    filed = ['a'];
    hands.look();
    await settled();
    const byQueue = hands.handle(message('a'), signal);
    await settled();
    expect(begun).toEqual(['a']);
    ends.get('a')?.resolve();
    await settled();
    expect(begun).toEqual(['a', 'a']);
    ends.get('a')?.resolve();
    await byQueue;
  });

  it('end what they are at when they are closed, and begin nothing more', async () => {
    filed = ['a'];
    hands.look();
    await settled();
    let isClosed = false;
    const closing = hands.close().then(() => (isClosed = true));
    await settled();
    expect(isClosed).toBe(false);
    filed = ['b'];
    ends.get('a')?.resolve();
    await closing;
    hands.look();
    await settled();
    expect([begun, filed]).toEqual([['a'], ['b']]);
  });

  it('hear what is filed at any moment of a look, also at its very end', async () => {
    for (let moment = 0; moment < 12; moment += 1) {
      hands.look();
      for (let i = 0; i < moment; i += 1) await Promise.resolve();
      filed = [`at ${moment}`];
      hands.look();
      await settled();
      // Before anything else makes them look.
      expect(begun.at(-1)).toBe(`at ${moment}`);
      ends.get(`at ${moment}`)?.resolve();
      await settled();
    }
  });
});
