import { EngineError } from '@freehold/market';

/** More than this in one engine's queue is a node that admits without counting. */
const WAITING_MAX = 256;

/** Hands out a fixed set of things, first come first served. */
export class Slots<T> {
  readonly #free: T[];
  readonly #waiting: ((slot: T) => void)[] = [];

  constructor(slots: readonly T[]) {
    this.#free = [...slots];
  }

  /** Runs `use` with a slot of its own. @throws {EngineError} `aborted` while waiting, `engine_busy` when too many wait. */
  async with<R>(signal: AbortSignal, use: (slot: T) => Promise<R>): Promise<R> {
    const slot = this.#free.pop() ?? (await this.#wait(signal));
    try {
      return await use(slot);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free.push(slot);
      else next(slot);
    }
  }

  async #wait(signal: AbortSignal): Promise<T> {
    if (this.#waiting.length >= WAITING_MAX) {
      throw new EngineError('engine_busy', `${WAITING_MAX} calls wait for a slot already: send fewer at once.`, true);
    }
    return new Promise<T>((resolve, reject) => {
      const onAbort = (): void => {
        const at = this.#waiting.indexOf(take);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(new EngineError('aborted', 'The call was cancelled while it waited for a slot.', true));
      };
      const take = (slot: T): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(slot);
      };
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(take);
    });
  }
}
