/** Nodes looked at between two pauses: some milliseconds, so that the chats which this process carries meanwhile are not held up. */
export const NODES_AT_ONCE = 512;

/** Lets the process do what else waits: frames of chats, requests, answers of the database. */
export function pause(): Promise<void> {
  return new Promise((resolve) => {
    // oxlint-disable-next-line no-restricted-globals -- it waits for no time and for nobody: what is ready goes first
    setImmediate(resolve);
  });
}

/** Before the next look at all of them, where they are many. */
export async function pauseOver({ length }: readonly unknown[], atOnce: number = NODES_AT_ONCE): Promise<void> {
  if (length > atOnce) await pause();
}

/** What each of many gives, with a pause after every few. */
export async function inSlices<T, R>(
  items: readonly T[],
  each: (item: T) => R,
  atOnce: number = NODES_AT_ONCE,
): Promise<R[]> {
  const all: R[] = [];
  for (const [at, item] of items.entries()) {
    if (at > 0 && at % atOnce === 0) await pause();
    all.push(each(item));
  }
  return all;
}
