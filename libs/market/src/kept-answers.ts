import type { MonotonicClock } from './ports/surroundings.ts';

/** How long an answer is given again. */
export interface Keeping {
  /** From this age on it is asked for anew by whoever uses it, who does not wait for that. */
  readonly freshMs: number;
  /** From this age on it is waited for. */
  readonly lateMs: number;
}

interface Kept {
  readonly atMs: number;
  readonly value: Promise<unknown>;
  isRenewed: boolean;
}

/** Answers of a moment ago, by name: one question for all who ask within its time, and nobody waits for one that follows another soon. */
export class KeptAnswers {
  readonly #clock: MonotonicClock;
  readonly #max: number;
  readonly #kept = new Map<string, Kept>();

  /** @param max Answers at most; the oldest go first. */
  constructor(clock: MonotonicClock, max: number) {
    this.#clock = clock;
    this.#max = max;
  }

  /** @param ask Told the answer that it follows, if it is not waited for. One that fails is nobody's answer twice. */
  once<T>(key: string, ask: (before: Promise<T> | null) => Promise<T>, { freshMs, lateMs }: Keeping): Promise<T> {
    const nowMs = this.#clock.nowMs();
    const known = this.#kept.get(key);
    const ageMs = known === undefined ? Number.POSITIVE_INFINITY : nowMs - known.atMs;
    if (known === undefined || ageMs >= lateMs) {
      const value = ask(null);
      this.#keep(key, { atMs: nowMs, value, isRenewed: false });
      return value;
    }
    const value = known.value as Promise<T>;
    if (ageMs >= freshMs && !known.isRenewed) this.#renew(key, known, nowMs, ask(value));
    return value;
  }

  forget(key: string): void {
    this.#kept.delete(key);
  }

  #keep(key: string, kept: Kept): void {
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    kept.value.catch(() => this.#drop(key, kept));
    const oldest = this.#kept.keys().next();
    if (this.#kept.size > this.#max && oldest.done !== true) this.#kept.delete(oldest.value);
  }

  /** Where it fails, the next one who asks waits, and is told. Its age is that of the question. */
  #renew(key: string, known: Kept, atMs: number, value: Promise<unknown>): void {
    known.isRenewed = true;
    value.then(
      () => {
        if (this.#kept.get(key) === known) this.#keep(key, { atMs, value, isRenewed: false });
      },
      () => this.#drop(key, known),
    );
  }

  #drop(key: string, kept: Kept): void {
    if (this.#kept.get(key) === kept) this.#kept.delete(key);
  }
}
