import { LOOKS_PER_STEP, type Steps } from '@freehold/domain';

/** Nodes looked at between two pauses: some milliseconds, so that the chats which this process carries meanwhile are not held up. */
export const NODES_AT_ONCE = 512;

/**
 * And so long at most: on a machine that is slow, or reads its program for the first time, as many nodes take many times as long. Chats
 * are held up by less than 25 ms, which nobody notices between two words; one look more, a collection of garbage and what else the process does fit in beside it.
 */
const SLICE_MS = 8;
/** Looks at a node between two looks at the clock. */
const LOOKS = 16;

/** The time since the last pause of one who looks at much. */
export class Slices {
  #sinceMs = nowMs();

  /** A pause where the slice is over. */
  async breathe(): Promise<void> {
    if (nowMs() - this.#sinceMs >= SLICE_MS) await this.rest();
  }

  async rest(): Promise<void> {
    await pause();
    this.#sinceMs = nowMs();
  }
}

function nowMs(): number {
  // oxlint-disable-next-line no-restricted-globals -- nothing that is answered depends on it: only when others have their turn
  return performance.now();
}

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
  const slices = new Slices();
  for (const [at, item] of items.entries()) {
    if (at > 0 && at % atOnce === 0) await slices.rest();
    else if (at % LOOKS === 0) await slices.breathe();
    all.push(each(item));
  }
  return all;
}

/** What is done in steps, with a pause after every few of them. */
export async function inSteps<T>(steps: Steps<T>, atOnce: number = NODES_AT_ONCE / LOOKS_PER_STEP): Promise<T> {
  const slices = new Slices();
  for (let taken = 1; ; taken += 1) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (taken % atOnce === 0) await slices.rest();
    else await slices.breathe();
  }
}
