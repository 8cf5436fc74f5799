import { Command, InvalidArgumentError } from 'commander';
import { statSync } from 'node:fs';
import { resolve } from 'node:path';

export interface Flags {
  readonly once: boolean;
  readonly json: boolean;
  readonly batches: readonly string[];
  readonly dataDir: string;
  readonly port: number;
  readonly fresh: boolean;
}

const DEFAULT_PORT = 8_080;

export function readFlags(argv: readonly string[], home: string): Flags {
  const command = new Command('npm start --')
    .description(
      'The whole market on this machine: real Postgres, queue, chain, nodes and models; runs a job and prints a scorecard.',
    )
    .option('--once', 'stop after the job; the exit code says whether everything held', false)
    .option('--json', 'stdout carries JSON lines only', false)
    .option(
      '--batch <file>',
      'an OpenAI batch input file instead of the built-in job (repeatable)',
      collectFile,
      [] as string[],
    )
    .option('--data <dir>', 'where everything is kept', folder, resolve(home, '.freehold'))
    .option('--port <n>', 'port of the API; 0 takes any free one', port, DEFAULT_PORT)
    .option('--fresh', 'forget what the data directory holds first', false)
    .allowExcessArguments(false)
    .addHelpText(
      'after',
      '\nExamples:\n  npm start -- --once\n  npm start -- --once --json --port 0 --data /tmp/market\n  npm start -- --once --batch tickets.jsonl',
    );
  command.parse(['node', 'devnet', ...argv]);
  const options = command.opts<{
    once: boolean;
    json: boolean;
    batch: string[];
    data: string;
    port: number;
    fresh: boolean;
  }>();
  return {
    once: options.once,
    json: options.json,
    batches: options.batch,
    dataDir: resolve(options.data),
    port: options.port,
    fresh: options.fresh,
  };
}

/** What is there already must be a folder; what is not there is made. */
function folder(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === false)
    throw new InvalidArgumentError(`${path} is no folder: name one, or a place where one can be made.`);
  return path;
}

function collectFile(file: string, files: string[]): string[] {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found === undefined) throw new InvalidArgumentError(`There is no file ${file}.`);
  if (!found.isFile()) throw new InvalidArgumentError(`${file} is no file: name a JSONL file.`);
  return [...files, resolve(file)];
}

function port(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_535)
    throw new InvalidArgumentError('Expected a port between 0 and 65535.');
  return value;
}
