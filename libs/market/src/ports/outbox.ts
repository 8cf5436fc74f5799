import type { Consumer, QueueMessage, Topic } from './queue.ts';

export abstract class Outbox {
  /**
   * Rows not sent yet, oldest first; concurrent relays never get the same row (SKIP LOCKED inside `sending`).
   *
   * @param leaveMs Rows that may be handled at once are left for so long to who {@link take}s them. Absent: not at all.
   */
  abstract relay(
    limit: number,
    send: (topic: Topic, messages: readonly QueueMessage[]) => Promise<void>,
    leaveMs?: number,
  ): Promise<number>;
  /**
   * Rows of a topic that neither the queue nor anybody else has, oldest first, for the caller to handle now. What is not {@link done}
   * after a while goes by the queue.
   */
  abstract take(topic: Topic, limit: number): Promise<readonly QueueMessage[]>;
  /** What was taken and is still being handled does not go by the queue for as long again. */
  abstract keep(outboxIds: readonly string[]): Promise<void>;
  /** What was taken goes by the queue, at once. */
  abstract giveUp(outboxIds: readonly string[]): Promise<void>;
  /** Tells whoever listens in other processes that rows of a topic were committed: a hint, nothing is lost without it. */
  abstract notify(topic: Topic): Promise<void>;
  /** Hears {@link notify} of all other processes. Deaf while the connection is away; what was filed then comes by the queue. */
  abstract listen(hear: (topic: Topic) => void): Promise<Consumer>;
  /** The handler is through with it; a lost queue is refilled with everything else. */
  abstract done(outboxIds: readonly string[]): Promise<void>;
  /** Makes every sent but undone row unsent again. Returns how many. */
  abstract refill(): Promise<number>;
  abstract remembered(key: string): Promise<string | null>;
  abstract remember(key: string, value: string): Promise<void>;
  /** Drops rows that are done and older than the limit. */
  abstract prune(olderThanMs: number): Promise<number>;
}
