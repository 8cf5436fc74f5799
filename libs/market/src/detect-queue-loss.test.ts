import { beforeEach, describe, expect, it } from '@jest/globals';
import { detectQueueLoss } from './detect-queue-loss.ts';
import { Outbox } from './ports/outbox.ts';
import { WorkQueue, type Consumer, type QueueMessage, type Topic } from './ports/queue.ts';
import { relayOutbox } from './relay-outbox.ts';

class MemoryQueue extends WorkQueue {
  waiting: string[] = [];
  id: string | null = null;
  renewals = 0;

  override publish(_topic: Topic, messages: readonly QueueMessage[]): Promise<void> {
    this.waiting.push(...messages.map((message) => message.outboxId));
    return Promise.resolve();
  }
  override consume(): Promise<Consumer> {
    return Promise.reject(new Error('nothing is consumed here'));
  }
  override incarnation(): Promise<string | null> {
    return Promise.resolve(this.id);
  }
  override renew(): Promise<string> {
    this.renewals += 1;
    this.id ??= `incarnation ${this.renewals}`;
    return Promise.resolve(this.id);
  }
  override close(): Promise<void> {
    return Promise.resolve();
  }
  lose(): void {
    this.waiting = [];
    this.id = null;
  }
}

class MemoryOutbox extends Outbox {
  rows = new Map<string, 'unsent' | 'sent' | 'done'>();
  facts = new Map<string, string>();
  dieBeforeRemembering = false;

  override async relay(
    limit: number,
    send: (topic: Topic, messages: readonly QueueMessage[]) => Promise<void>,
  ): Promise<number> {
    const ids = [...this.rows]
      .filter(([, state]) => state === 'unsent')
      .map(([id]) => id)
      .slice(0, limit);
    if (ids.length > 0)
      await send(
        'place',
        ids.map((outboxId) => ({ outboxId, ids: {} })),
      );
    for (const id of ids) this.rows.set(id, 'sent');
    return ids.length;
  }
  override take(): Promise<readonly QueueMessage[]> {
    return Promise.resolve([]);
  }
  override keep(): Promise<void> {
    return Promise.resolve();
  }
  override giveUp(): Promise<void> {
    return Promise.resolve();
  }
  override notify(): Promise<void> {
    return Promise.resolve();
  }
  override listen(): Promise<Consumer> {
    return Promise.resolve({ close: () => Promise.resolve() });
  }
  override done(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.rows.set(id, 'done');
    return Promise.resolve();
  }
  override refill(): Promise<number> {
    const sent = [...this.rows].filter(([, state]) => state === 'sent');
    for (const [id] of sent) this.rows.set(id, 'unsent');
    return Promise.resolve(sent.length);
  }
  override remembered(key: string): Promise<string | null> {
    return Promise.resolve(this.facts.get(key) ?? null);
  }
  override remember(key: string, value: string): Promise<void> {
    if (this.dieBeforeRemembering) return Promise.reject(new Error('killed on purpose'));
    this.facts.set(key, value);
    return Promise.resolve();
  }
  override prune(): Promise<number> {
    return Promise.resolve(0);
  }
}

describe('detectQueueLoss', () => {
  let queue: MemoryQueue;
  let outbox: MemoryOutbox;

  beforeEach(async () => {
    queue = new MemoryQueue();
    outbox = new MemoryOutbox();
    await detectQueueLoss({ outbox, queue });
    outbox.rows = new Map([
      ['1', 'unsent'],
      ['2', 'unsent'],
      ['3', 'unsent'],
    ]);
    await relayOutbox({ outbox, queue }, 100);
    await outbox.done(['2']);
  });

  it('leaves a queue alone that is the one it filled, however long its messages wait', async () => {
    for (let i = 0; i < 5; i += 1) await expect(detectQueueLoss({ outbox, queue })).resolves.toEqual({ lost: false });
    expect(queue.renewals).toBe(1);
    await expect(relayOutbox({ outbox, queue }, 100)).resolves.toBe(0);
  });

  it('fills a lost queue with everything undone, and with nothing that is done', async () => {
    queue.lose();
    await expect(detectQueueLoss({ outbox, queue })).resolves.toEqual({ lost: true, refilled: 2 });
    await relayOutbox({ outbox, queue }, 100);
    expect(queue.waiting).toEqual(['1', '3']);
    await expect(detectQueueLoss({ outbox, queue })).resolves.toEqual({ lost: false });
  });

  it('refills once more when it was killed before it remembered the new queue', async () => {
    queue.lose();
    outbox.dieBeforeRemembering = true;
    await expect(detectQueueLoss({ outbox, queue })).rejects.toThrow(/killed/);
    outbox.dieBeforeRemembering = false;
    await relayOutbox({ outbox, queue }, 100);
    await expect(detectQueueLoss({ outbox, queue })).resolves.toEqual({ lost: true, refilled: 2 });
  });

  it('notices a queue that somebody else put in the place of ours', async () => {
    queue.lose();
    queue.id = 'a stranger';
    await expect(detectQueueLoss({ outbox, queue })).resolves.toMatchObject({ lost: true });
  });
});
