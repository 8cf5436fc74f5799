import type { Outbox, Topic } from '@freehold/market';

/**
 * Tells the schedulers what this process has just filed, so that a submission does not wait for the next look at the outbox and for the
 * queue behind it. One turn at a time for each topic; what is filed during one makes one more.
 */
export class HurriedNotice {
  readonly #outbox: Pick<Outbox, 'notify'>;
  readonly #report: (error: unknown) => void;
  readonly #turns = new Map<Topic, Promise<void>>();
  readonly #again = new Set<Topic>();

  /** @param report Told why a turn came to nothing: what was filed comes by the queue a moment later. */
  constructor(outbox: Pick<Outbox, 'notify'>, report: (error: unknown) => void) {
    this.#outbox = outbox;
    this.#report = report;
  }

  hurry(topic: Topic): void {
    this.#again.add(topic);
    if (this.#turns.has(topic)) return;
    this.#turns.set(
      topic,
      this.#run(topic).finally(() => {
        this.#turns.delete(topic);
        // Filed between the end of the last turn and now.
        if (this.#again.has(topic)) this.hurry(topic);
      }),
    );
  }

  /** Resolves when nothing is being told. */
  async settled(): Promise<void> {
    await Promise.all(this.#turns.values());
  }

  async #run(topic: Topic): Promise<void> {
    while (this.#again.delete(topic)) {
      try {
        await this.#outbox.notify(topic);
      } catch (error) {
        this.#report(error);
      }
    }
  }
}
