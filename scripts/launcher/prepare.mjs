import { ensureBuilt } from './build.mjs';
import { oneAtATime } from './gate.mjs';
import { ensureInstalled } from './install.mjs';
import { checkMachine } from './machine.mjs';

/**
 * From a bare clone to something that runs: checks Node, installs, builds. Quick when all is there.
 *
 * @param {import('./install.mjs').Kind} kind 'production' for what the house runs on; 'full' for what tests and checks need as well.
 */
export async function prepare(kind) {
  checkMachine();
  await oneAtATime(async () => {
    await ensureInstalled(kind);
    await ensureBuilt();
  });
}
