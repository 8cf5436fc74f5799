import { writeFile } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

/** The kernel takes one such wish in a tenth of a second from all who are not root together, and answers the others EAGAIN. */
const AGAIN_MS = 150;
const TRIES_MAX = 20;

/**
 * Gives a process that leads a session of its own a niceness, as of nice(1), with all that it starts.
 *
 * Where Linux keeps sessions apart (`kernel.sched_autogroup_enabled`, sched(7)) a niceness ranks a process only among those of its own
 * session: so the session gets it as well.
 *
 * A wish: one that has ended already, or a system without priorities, runs (or not) all the same.
 */
export async function beNice(pid: number, niceness: number): Promise<void> {
  try {
    setPriority(pid, niceness);
    for (let tries = 0; tries < TRIES_MAX && !(await sessionIsNice(pid, niceness)); tries += 1)
      await sleep(AGAIN_MS, undefined, { ref: false });
  } catch {
    // It runs like any other.
  }
}

/** @returns false where it is to be tried again. */
async function sessionIsNice(pid: number, niceness: number): Promise<boolean> {
  try {
    await writeFile(`/proc/${pid}/autogroup`, String(niceness), { flag: 'r+' });
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'EAGAIN';
  }
}
