import { ApiError } from '@freehold/protocol';

/** Explanations that wait for their turn: at 5,000 nodes and 256 jobs each of them takes half a second. */
const WAITING_MAX = 64;

/**
 * One explanation after the other: each lets go of the process every few milliseconds, and of many at once each would take its few
 * before a chat has its turn.
 */
export class ExplainTurns {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** @throws {ApiError} 429 where too many wait. */
  async take<T>(explain: () => Promise<T>): Promise<T> {
    if (this.#waiting >= WAITING_MAX) throw busy();
    this.#waiting += 1;
    const mine = this.#last.then(explain);
    // Whoever comes next waits for its end, however it ends.
    this.#last = mine.catch(() => undefined);
    try {
      return await mine;
    } finally {
      this.#waiting -= 1;
    }
  }
}

function busy(): ApiError {
  return new ApiError({
    status: 429,
    type: 'rate_limit_error',
    code: 'explanations_busy',
    message: `${WAITING_MAX} explanations wait for their turn already: ask again in some seconds.`,
    retryAfterS: 5,
  });
}
