/** What failed once fails again for a while: twenty reports a second tell nobody more. */
const AFTER_ERROR_MS = 500;

/**
 * Runs `work` again and again, never twice at once, `intervalMs` after it ended, or as many milliseconds as it returns. An error
 * is reported and the next tick comes a little later.
 */
export class Ticker {
  readonly #intervalMs: number;
  readonly #work: () => Promise<number | void>;
  readonly #report: (error: unknown) => void;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(intervalMs: number, work: () => Promise<number | void>, report: (error: unknown) => void) {
    this.#intervalMs = intervalMs;
    this.#work = work;
    this.#report = report;
    this.#schedule(0);
  }

  /** The next tick comes now, if none is under way. */
  hurry(): void {
    if (this.#timer !== null) {
      clearTimeout(this.#timer);
      this.#schedule(0);
    }
  }

  #schedule(delayMs: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#running = this.#work().then(
        (nextMs) => this.#schedule(nextMs ?? this.#intervalMs),
        (error: unknown) => {
          this.#report(error);
          this.#schedule(Math.max(this.#intervalMs, AFTER_ERROR_MS));
        },
      );
    }, delayMs);
  }

  /** Resolves when the tick under way is over. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#running;
  }
}
