import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { ROOT } from './paths.mjs';

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Runs a script of the house in our place: same terminal, same environment, its exit code is ours, signals are passed on.
 *
 * It stays in our process group, so whoever kills the group kills it too; and it gets an IPC channel, so that it notices
 * (`disconnect`) when we alone are killed. Ctrl-C in a terminal reaches it twice, from the terminal and from us: the
 * house takes two signals within a second for one.
 */
export async function runInOurPlace(script, args) {
  const child = spawn(process.execPath, [script, ...args], {
    cwd: ROOT,
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
  const { code, signal } = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (exitCode, exitSignal) => resolve({ code: exitCode, signal: exitSignal }));
  });
  process.exit(code ?? 128 + constants.signals[signal]);
}
