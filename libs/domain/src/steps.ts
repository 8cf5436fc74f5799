/** Work over thousands of nodes that stops after every few: who does it may let others have their turn there. */
export type Steps<T> = Generator<void, T, void>;

/** Looks at a node, or at a price list, between two stops: a fraction of a millisecond. */
export const LOOKS_PER_STEP = 64;

/** What each of many gives, and a stop after every few. */
export function* eachInSteps<T, R>(items: readonly T[], each: (item: T) => R): Steps<R[]> {
  const all: R[] = [];
  for (const [at, item] of items.entries()) {
    if (at > 0 && at % LOOKS_PER_STEP === 0) yield;
    all.push(each(item));
  }
  return all;
}

/** Without a stop, for who has nobody waiting. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
