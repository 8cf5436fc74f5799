import { relayOutbox, type Outbox, type WorkQueue } from '@freehold/market';

/** What a process has filed since its last turn is a message or two; a backlog is the scheduler's to work off. */
const ROWS_MAX = 100;

/**
 * Hands over what this process has just filed, so that a submission does not wait for the scheduler's next look at the outbox.
 * One turn at a time; what is filed during one makes one more.
 */
export class HurriedRelay {
  readonly #ports: { readonly outbox: Outbox; readonly queue: WorkQueue };
  readonly #report: (error: unknown) => void;
  #turn: Promise<void> | null = null;
  #again = false;

  /** @param report Told why a turn came to nothing: the scheduler's own look hands the same rows over a moment later. */
  constructor(ports: { readonly outbox: Outbox; readonly queue: WorkQueue }, report: (error: unknown) => void) {
    this.#ports = ports;
    this.#report = report;
  }

  hurry(): void {
    this.#again = true;
    this.#turn ??= this.#run().finally(() => {
      this.#turn = null;
    });
  }

  /** Resolves when nothing is being handed over. */
  async settled(): Promise<void> {
    await this.#turn;
  }

  async #run(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      try {
        await relayOutbox(this.#ports, ROWS_MAX);
      } catch (error) {
        this.#report(error);
      }
    }
  }
}
