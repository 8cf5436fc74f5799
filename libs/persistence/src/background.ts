import { AsyncLocalStorage } from 'node:async_hooks';

const BACKGROUND = new AsyncLocalStorage<boolean>();

/** What `work` asks of a database is what nobody waits for: it takes turns on a part of the connections, and leaves the rest to others. */
export function inBackground<T>(work: () => Promise<T>): Promise<T> {
  return BACKGROUND.run(true, work);
}

/** For what somebody waits for, where it begins in the background. */
export function inForeground<T>(work: () => T): T {
  return BACKGROUND.run(false, work);
}

export function isInBackground(): boolean {
  return BACKGROUND.getStore() === true;
}

/** So many at once; who comes later waits for his turn. */
export class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
