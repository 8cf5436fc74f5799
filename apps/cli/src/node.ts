import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { addNodeWhy } from './why.ts';

/** The commands of providers, and every exit, live in a small process of their own (no database, no Nest); this passes the words on. */
export function addNode(program: Command): void {
  const doors = [
    [
      'node',
      "The provider's node: up, status, drain, why, cashout, relay. `freehold node up --help` tells its options.",
      [],
    ],
    ['batch', 'A batch whose coordinator was lost: `freehold batch rebuild`, `freehold batch merge`.', ['batch']],
    ['receipts', 'Receipts: `freehold receipts verify FILE` checks them as anyone can.', ['receipts']],
    ['order', "A requester's order: `freehold order refund` brings its rest home.", ['order']],
  ] as const;
  for (const [name, description, before] of doors) {
    const door = program.command(name);
    // It asks the market and not the node's process.
    if (name === 'node') addNodeWhy(door);
    door
      .description(description)
      .argument('[words...]', 'what to do, and its options')
      .allowUnknownOption()
      .helpOption(false)
      .action((words: string[]) => runNode([...before, ...words]));
  }
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
