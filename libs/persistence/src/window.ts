import { CommitUnknownError } from './database-errors.ts';

interface Waiting<T, R> {
  readonly item: T;
  readonly resolve: (answer: R) => void;
  readonly reject: (error: unknown) => void;
}

export interface WindowOptions<T> {
  /** Calls wait so long for others, unless none came for as long before; 0: each is done by itself. */
  readonly windowMs: number;
  /** What one flush carries at most. */
  readonly weightMax: number;
  readonly weightOf: (item: T) => number;
}

/**
 * Calls that come within a few milliseconds are done as one, and each gets its own answer when that one is committed. While one
 * flush is under way the next gathers, so that a busy database makes larger flushes. Who comes after a pause does not wait:
 * others would be there already.
 *
 * When a flush fails, each of its calls is done alone: nobody's fault is another's. Not when it is unknown whether it was
 * committed: then each is told, as if it had been alone.
 */
export class Window<T, R> {
  readonly #run: (items: readonly T[]) => Promise<readonly R[]>;
  readonly #options: WindowOptions<T>;
  #gathering: Waiting<T, R>[] = [];
  #timer: NodeJS.Timeout | NodeJS.Immediate | null = null;
  #lastMs = Number.NEGATIVE_INFINITY;
  #isFlushing = false;

  constructor(run: (items: readonly T[]) => Promise<readonly R[]>, options: WindowOptions<T>) {
    this.#run = run;
    this.#options = options;
  }

  async add(item: T): Promise<R> {
    if (this.#options.windowMs <= 0) return this.#alone(item);
    const nowMs = performance.now();
    const isAlone = !this.#isFlushing && nowMs - this.#lastMs > this.#options.windowMs;
    this.#lastMs = nowMs;
    const due = (): void => {
      this.#timer = null;
      void this.#flush();
    };
    return new Promise<R>((resolve, reject) => {
      this.#gathering.push({ item, resolve, reject });
      this.#timer ??= isAlone ? setImmediate(due) : setTimeout(due, this.#options.windowMs);
    });
  }

  async #flush(): Promise<void> {
    // What is under way flushes again when it is done.
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    try {
      while (this.#gathering.length > 0 && this.#timer === null) await this.#flushOne(this.#taken());
    } finally {
      this.#isFlushing = false;
    }
  }

  /** The first that came, as many as one flush carries. */
  #taken(): Waiting<T, R>[] {
    let weight = 0;
    let count = 0;
    for (const { item } of this.#gathering) {
      weight += this.#options.weightOf(item);
      if (count > 0 && weight > this.#options.weightMax) break;
      count += 1;
    }
    return this.#gathering.splice(0, count);
  }

  async #flushOne(calls: readonly Waiting<T, R>[]): Promise<void> {
    try {
      const answers = await this.#run(calls.map(({ item }) => item));
      if (answers.length !== calls.length) throw new Error(`${answers.length} answers came for ${calls.length} calls`);
      for (const [i, call] of calls.entries()) call.resolve(answers[i] as R);
    } catch (error) {
      const isUnknown = error instanceof CommitUnknownError;
      for (const call of calls) {
        if (calls.length === 1 || isUnknown) call.reject(error);
        else await this.#alone(call.item).then(call.resolve, call.reject);
      }
    }
  }

  async #alone(item: T): Promise<R> {
    return (await this.#run([item]))[0] as R;
  }
}
