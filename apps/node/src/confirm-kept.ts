/** Of vouchers that are kept with one message: a third of what a coordinator takes from a node at once. */
const AT_ONCE = 100;
/** Forty a second, below the fifty that it takes for long; heartbeats and offers want to go out, too. */
const EVERY_MS = 25;

/**
 * Says that vouchers are kept. A thousand may have waited for the one that came: told in an earlier session, or by another process,
 * they are no answers that the coordinator expects from this one, and all at once they are a flood. Nobody waits for the later ones.
 *
 * @param tell False when the line is gone: they are sent again at the next hello, and confirmed then.
 */
export async function confirmKept(tasks: readonly string[], tell: (task: string) => Promise<boolean>): Promise<void> {
  for (const task of tasks.slice(0, AT_ONCE)) await tell(task);
  void slowly(tasks.slice(AT_ONCE), tell);
}

async function slowly(tasks: readonly string[], tell: (task: string) => Promise<boolean>): Promise<void> {
  for (const task of tasks) {
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS).unref());
    if (!(await tell(task))) return;
  }
}
