import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';

/** The provider's commands live in a small process of their own (no database, no Nest); this passes the words on. */
export function addNode(program: Command): void {
  program
    .command('node')
    .description("The provider's node: up, status, drain. `freehold node up --help` tells its options.")
    .argument('[words...]', 'up | status | drain, and their options')
    .allowUnknownOption()
    .helpOption(false)
    .action((words: string[]) => runNode(words));
}

function runNode(words: readonly string[]): Promise<void> {
  const entry = fileURLToPath(new URL('../../node/dist/main.js', import.meta.url));
  const child = spawn(process.execPath, [entry, ...words], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      process.exitCode = signal === null ? (code ?? 1) : 1;
      resolve();
    });
  });
}
