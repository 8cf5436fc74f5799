import type { Outbox } from './ports/outbox.ts';
import type { QueueMessage, Topic } from './ports/queue.ts';

/** By a renewal every three seconds, 45 s beside a claim of ten: a message that is not sent after a minute is reported as stuck. */
export const RENEWALS_MAX = 14;

export interface EarlyHandsPorts {
  readonly outbox: Pick<Outbox, 'take' | 'keep' | 'giveUp' | 'done'>;
  readonly topic: Topic;
  /** Messages at once, beside those that come by the queue. */
  readonly handsMax: number;
  readonly handle: (message: QueueMessage, signal: AbortSignal) => Promise<void>;
  readonly report: (what: string, error: unknown) => void;
}

/**
 * Takes work from the outbox as soon as it hears that some was filed, while a hand is free: the queue would bring it some tens of
 * milliseconds later. Whatever it does not take, or does not finish, comes by the queue as if nobody had heard.
 */
export class EarlyHands {
  readonly #ports: EarlyHandsPorts;
  readonly #stop = new AbortController();
  readonly #atWork = new Map<string, Promise<void>>();
  /** How often the claim on what is at work was renewed. */
  readonly #renewals = new Map<string, number>();
  /** What was handled and is being marked as done, which waits for others to share a commit: no hand waits with it. */
  readonly #marking = new Set<Promise<void>>();
  #looking: Promise<void> | null = null;
  #again = false;
  /** Whether there may be more than there were hands for: who ends looks again. */
  #wasFull = false;

  constructor(ports: EarlyHandsPorts) {
    this.#ports = ports;
  }

  /** Some work was filed. Many calls make one look, and one more for what was filed meanwhile. */
  look(): void {
    this.#again = true;
    this.#looking ??= this.#lookOn().finally(() => {
      this.#looking = null;
      // Asked for between the end of the last look and now.
      if (this.#again && !this.#stop.signal.aborted) this.look();
    });
  }

  /** For what comes by the queue: what a hand is at already is waited for, and then handled again, which every handler stands. */
  async handle(message: QueueMessage, signal: AbortSignal): Promise<void> {
    await this.#atWork.get(message.outboxId);
    await this.#ports.handle(message, signal);
  }

  /**
   * To be called well within the time of a claim: what takes longer would come by the queue beside it. Not for ever: a hand that hangs
   * is relieved by the queue.
   */
  async renew(): Promise<void> {
    const ids = [...this.#atWork.keys()].filter((id) => (this.#renewals.get(id) ?? 0) < RENEWALS_MAX);
    for (const id of ids) this.#renewals.set(id, (this.#renewals.get(id) ?? 0) + 1);
    if (ids.length > 0) await this.#ports.outbox.keep(ids);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#looking;
    await Promise.all(this.#atWork.values());
    await Promise.all(this.#marking);
  }

  async #lookOn(): Promise<void> {
    const { outbox, topic, handsMax, report } = this.#ports;
    while (this.#again && !this.#stop.signal.aborted) {
      this.#again = false;
      const free = handsMax - this.#atWork.size;
      this.#wasFull = free <= 0;
      if (this.#wasFull) return;
      try {
        const taken = await outbox.take(topic, free);
        this.#wasFull = taken.length >= free;
        for (const message of taken) this.#begin(message);
      } catch (error) {
        report(`looking for filed work of topic ${topic}`, error);
      }
    }
  }

  #begin(message: QueueMessage): void {
    const work = this.#work(message).finally(() => {
      this.#atWork.delete(message.outboxId);
      this.#renewals.delete(message.outboxId);
      if (this.#wasFull) this.look();
    });
    this.#atWork.set(message.outboxId, work);
  }

  async #work(message: QueueMessage): Promise<void> {
    const { outbox, handle, report, topic } = this.#ports;
    try {
      await handle(message, this.#stop.signal);
      this.#mark(message);
    } catch (error) {
      // Who is closed while it waits for something has done nothing wrong.
      if (!this.#stop.signal.aborted) report(`work of topic ${topic}, taken early`, error);
      // The claim runs out by itself where even this fails.
      await outbox.giveUp([message.outboxId]).catch((why: unknown) => report('giving filed work up', why));
    }
  }

  /** Where this fails the message comes by the queue, and nothing is left to do. */
  #mark({ outboxId }: QueueMessage): void {
    const { outbox, report } = this.#ports;
    const marking = outbox
      .done([outboxId])
      .catch((error: unknown) => report('marking filed work as done', error))
      .finally(() => this.#marking.delete(marking));
    this.#marking.add(marking);
  }
}
