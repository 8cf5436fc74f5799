/** First pause before a failed message is handled again, and the longest one. */
export const RETRY_FIRST_MS = 250;
export const RETRY_LONGEST_MS = 30_000;

/**
 * How long to wait before the next attempt: exponential with full jitter, so that what failed together does not come back
 * together.
 *
 * @param attemptsMade Counts the failed one: at least 1.
 * @param chance In [0, 1).
 */
export function retryDelayMs(attemptsMade: number, chance: number): number {
  const ceilingMs = Math.min(RETRY_FIRST_MS * 2 ** Math.min(attemptsMade - 1, 16), RETRY_LONGEST_MS);
  return Math.floor(chance * ceilingMs);
}
