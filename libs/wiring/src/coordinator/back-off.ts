const FIRST_MS = 1_000;
/** Whoever pays for requests pays for those that fail, too; half a minute late is soon enough once it goes again. */
const LONGEST_MS = 30_000;

/** How long to wait after so many failures in a row: a second after the first, twice as long after each, and half a minute at most. */
export function backOffMs(failures: number): number {
  return failures < 1 ? 0 : Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16));
}
