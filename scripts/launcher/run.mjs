import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { ROOT } from './paths.mjs';

const PARENT_LOOK_EVERY_MS = 500;
/** @type {readonly NodeJS.Signals[]} */
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Runs a script of the house in our place: same terminal, same environment, its exit code is ours, signals are passed on.
 *
 * It stays in our process group, so whoever kills the group kills it too; and it gets an IPC channel, so that it notices
 * (`disconnect`) when we alone are killed. Ctrl-C in a terminal reaches it twice, from the terminal and from us: the
 * house takes two signals within a second for one.
 *
 * @param {string} script
 * @param {readonly string[]} args
 */
export async function runInOurPlace(script, args) {
  const child = spawn(process.execPath, [script, ...args], {
    cwd: ROOT,
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
  stopWithNpm(() => child.kill('SIGTERM'));
  /** @type {{ code: number | null; signal: NodeJS.Signals | null }} */
  const { code, signal } = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (exitCode, exitSignal) => resolve({ code: exitCode, signal: exitSignal }));
  });
  process.exit(code ?? 128 + constants.signals[signal ?? 'SIGKILL']);
}

/**
 * npm killed without mercy tells nobody. Whoever killed it wants the house down, so we look whether it is still our parent.
 *
 * @param {() => void} stop
 */
function stopWithNpm(stop) {
  if (process.env['npm_lifecycle_event'] === undefined) return;
  const npm = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === npm) return;
    clearInterval(timer);
    stop();
  }, PARENT_LOOK_EVERY_MS);
  timer.unref();
}
