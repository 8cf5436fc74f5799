import type { QueueMessage, Topic } from './queue.ts';

export abstract class Outbox {
  /** Rows not sent yet, oldest first; concurrent relays never get the same row (SKIP LOCKED inside `sending`). */
  abstract relay(
    limit: number,
    send: (topic: Topic, messages: readonly QueueMessage[]) => Promise<void>,
  ): Promise<number>;
  /** The handler is through with it; a lost queue is refilled with everything else. */
  abstract done(outboxIds: readonly string[]): Promise<void>;
  /** Makes every sent but undone row unsent again. Returns how many. */
  abstract refill(): Promise<number>;
  abstract remembered(key: string): Promise<string | null>;
  abstract remember(key: string, value: string): Promise<void>;
  /** Drops rows that are done and older than the limit. */
  abstract prune(olderThanMs: number): Promise<number>;
}
