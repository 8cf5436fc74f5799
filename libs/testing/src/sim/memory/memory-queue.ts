import { WorkQueue, type Consumer, type QueueMessage, type Topic } from '@freehold/market';
import type { Dice } from '../dice.ts';
import type { VirtualTime } from '../virtual-time.ts';

/** What a queue does to messages when it has a bad day. Shares are of all messages. */
export interface QueueManners {
  readonly delayMsMax: number;
  /** Handed over a second time, some time later. */
  readonly duplicates: number;
}

export const POLITE: QueueManners = { delayMsMax: 20, duplicates: 0 };
const RETRY_MS = 1_000;

interface Handler {
  readonly handle: (message: QueueMessage, signal: AbortSignal) => Promise<void>;
  readonly isUp: () => boolean;
}

/** A queue that reorders, repeats and can be thrown away. A message whose handler failed or died is handed over again. */
export class MemoryQueue extends WorkQueue {
  readonly #time: VirtualTime;
  readonly #dice: Dice;
  readonly #manners: () => QueueManners;
  readonly #handlers = new Map<Topic, Handler[]>();
  #generation = 0;
  #incarnation: string | null = null;
  readonly #known = new Set<string>();
  wipes = 0;

  constructor(parts: { time: VirtualTime; dice: Dice; manners: () => QueueManners }) {
    super();
    this.#time = parts.time;
    this.#dice = parts.dice;
    this.#manners = parts.manners;
  }

  /** Everything that was in the queue is gone, and nobody is told. */
  wipe(): void {
    this.#generation += 1;
    this.#incarnation = null;
    this.#known.clear();
    this.wipes += 1;
  }

  async publish(topic: Topic, messages: readonly QueueMessage[]): Promise<void> {
    for (const message of messages) {
      const times = this.#dice.isHit(this.#manners().duplicates) ? 2 : 1;
      if (this.#known.has(message.outboxId)) continue;
      this.#known.add(message.outboxId);
      for (let copy = 0; copy < times; copy += 1) this.#deliver(topic, message, this.#delayMs() * (1 + copy * 5));
    }
  }

  #delayMs(): number {
    return 1 + this.#dice.unit() * this.#manners().delayMsMax;
  }

  #deliver(topic: Topic, message: QueueMessage, delayMs: number): void {
    const generation = this.#generation;
    this.#time.after(delayMs, () => {
      if (generation !== this.#generation) return;
      const handler = this.#handlers.get(topic)?.findLast(({ isUp }) => isUp());
      if (handler === undefined) return this.#deliver(topic, message, RETRY_MS);
      let isSettled = false;
      handler
        .handle(message, new AbortController().signal)
        .then(() => (this.#known.delete(message.outboxId), true))
        .catch(() => {
          if (generation === this.#generation) this.#deliver(topic, message, RETRY_MS + this.#delayMs());
        })
        .finally(() => {
          isSettled = true;
        });
      this.#watch(
        () => isSettled,
        handler,
        () => {
          if (generation === this.#generation) this.#deliver(topic, message, RETRY_MS);
        },
      );
    });
  }

  /** A handler that died with its process never answers: whoever holds the queue notices after a while. */
  #watch(isSettled: () => boolean, handler: Handler, again: () => void): void {
    this.#time.after(RETRY_MS, () => {
      if (isSettled()) return;
      if (handler.isUp()) this.#watch(isSettled, handler, again);
      else again();
    });
  }

  consume(topic: Topic, _concurrency: number, handle: Handler['handle']): Promise<Consumer> {
    return this.consumeWhile(topic, handle, () => true);
  }

  async consumeWhile(topic: Topic, handle: Handler['handle'], isUp: () => boolean): Promise<Consumer> {
    this.#handlers.set(topic, [...(this.#handlers.get(topic) ?? []).filter((known) => known.isUp()), { handle, isUp }]);
    return { close: async () => void this.#handlers.delete(topic) };
  }

  async incarnation(): Promise<string | null> {
    return this.#incarnation;
  }
  async renew(): Promise<string> {
    this.#incarnation ??= this.#dice.hex(8);
    return this.#incarnation;
  }
  async close(): Promise<void> {
    this.#handlers.clear();
    await Promise.resolve();
  }
}
