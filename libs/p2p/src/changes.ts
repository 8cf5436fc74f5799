/** Wakes whoever waits for a condition over plain variables; `raise` after changing them. */
export class Changes {
  readonly #waiting = new Set<() => void>();

  raise(): void {
    for (const check of [...this.#waiting]) check();
  }

  /** Resolves at once when the condition holds, else after the first `raise` that finds it true. */
  async until(holds: () => boolean): Promise<void> {
    if (holds()) return;
    await new Promise<void>((resolve) => {
      const check = (): void => {
        if (!holds()) return;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
    });
  }
}
