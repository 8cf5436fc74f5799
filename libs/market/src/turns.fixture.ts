/** Turns that others have while something is done. */
export async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  const { turns } = await turnsWith(() => 0, work);
  return turns;
}

/** The same, and the most that a count of its work rises by between two turns. */
export async function turnsWith(
  done: () => number,
  work: () => Promise<unknown>,
): Promise<{ readonly turns: number; readonly most: number }> {
  let turns = 0;
  let most = 0;
  let before = done();
  let isOver = false;
  const look = (): void => {
    most = Math.max(most, done() - before);
    before = done();
  };
  const count = (): void => {
    turns += 1;
    look();
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  await work();
  look();
  isOver = true;
  return { turns, most };
}
