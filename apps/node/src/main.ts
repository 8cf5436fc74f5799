import { existsSync, mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { outliveFullLog, signalProcess } from '@freehold/wiring/process';
import { FOLDER_MODE } from './durable-files.ts';
import { addExits } from './exit/commands.ts';
import { hasNodeKey } from './key-file.ts';
import { DamagedFileError, UnreadableFileError } from './kept-json.ts';
import { SLOW_MS_DEFAULT } from './modes.ts';
import {
  DEFAULT_EXPOSURE_MAX,
  DEFAULT_UNSIGNED_MAX,
  nodeOptions,
  OptionError,
  type NodeOptions,
  type RawOptions,
} from './options.ts';
import { StatusFile } from './status-file.ts';

const DEFAULT_DATA = '.freehold/node';

/** `freehold` answers it before it comes here, yet it is looked for here. */
const ASKED_OF_THE_MARKET = `
Asked of the market, not of this process:
  freehold node why [node]  What the node got and lost, by reason, and the price
                          that would have won. "freehold node why --help" says more.`;

const each = (value: string, before: readonly string[]): readonly string[] => [...before, value];

async function main(): Promise<void> {
  const program = new Command('freehold node').description("The provider's node.");
  program
    .command('up', { isDefault: true })
    .description('Serve. The machine dials out; no port is opened.')
    .option('--coordinator <multiaddr>', 'a coordinator process, /ip4/…/tcp/…/p2p/<peer id>; repeatable', each, [])
    .option('--data <dir>', 'where key, leases and receipts are kept', DEFAULT_DATA)
    .option(
      '--engine <name>',
      'llama-cpp, use-lite, trainer, or the URL of an OpenAI-compatible server (its key in ENGINE_API_KEY); repeatable',
      each,
      [],
    )
    .option('--model <name>', 'serve only this model of the engines for chat')
    .option('--rate <kind=amount>', 'price in smallest token units per million units; repeatable', each, [])
    .option('--payout <address>', "where to be paid, instead of the node's own address")
    .option('--region <name>', 'where the machine stands', 'local')
    .option(
      '--isolation <kind>',
      'what keeps the work away from the rest of the machine (none, bwrap, container, gvisor, kata, cvm), instead of what it shows',
    )
    .option('--slots <n>', 'concurrent sequences per model, instead of what the engine says')
    .option('--chat-share <percent>', 'of the slots, at most this much for chat', '50')
    .option('--exposure-max <amount>', 'stop serving above this much uncashed work', String(DEFAULT_EXPOSURE_MAX))
    .option(
      '--unsigned-max <amount>',
      'stop serving a coordinator above this much delivered work that it signed nothing for',
      String(DEFAULT_UNSIGNED_MAX),
    )
    .option('--rpc <url>', 'where the node reads what was paid on the chain, instead of RPC_URL')
    .option('--notice <seconds>', 'how long handing rows back may take when you want the machine', '1')
    .option('--mode <mode>', 'honest, or a simulation: cheat, flapper, slow', 'honest')
    .option('--slow-ms <ms>', 'what --mode slow sleeps before each row', String(SLOW_MS_DEFAULT))
    .option('--json', 'print {"ready":true,…} on standard output when serving')
    .action(async (raw: RawOptions) => await up(nodeOptions(raw)));
  program
    .command('status')
    .description('How the node on this folder is.')
    .option('--data <dir>', '', DEFAULT_DATA)
    .action(async ({ data }: { data: string }) => await status(resolve(data)));
  program
    .command('drain')
    .description('Finish what is in hand, take nothing new, and stop.')
    .option('--data <dir>', '', DEFAULT_DATA)
    .action(async ({ data }: { data: string }) => await drain(resolve(data)));
  addExits(program, DEFAULT_DATA);
  program.addHelpText('after', ASKED_OF_THE_MARKET);
  await program.parseAsync();
}

/** What serves is loaded last: a mistyped option and a folder in use are told at once. */
async function up(options: NodeOptions): Promise<void> {
  outliveFullLog();
  mkdirSync(options.dataDir, { recursive: true, mode: FOLDER_MODE });
  const statusFile = new StatusFile(options.dataDir);
  await statusFile.claim();
  const { serve } = await import('./serve.ts');
  await serve(options, statusFile);
}

async function status(dataDir: string): Promise<void> {
  refuseWithoutNode(dataDir);
  const running = await new StatusFile(dataDir).running();
  process.stdout.write(
    `${JSON.stringify(running === null ? { state: 'down', dataDir } : { ...running.status, dataDir }, null, 2)}\n`,
  );
  if (running === null) process.exitCode = 1;
}

async function drain(dataDir: string): Promise<void> {
  refuseWithoutNode(dataDir);
  const running = await new StatusFile(dataDir).running();
  if (running === null) throw new OptionError(`No node runs on ${dataDir}: there is nothing to drain.`);
  signalProcess(running.process, 'SIGUSR2');
  process.stdout.write(`Process ${running.process.pid} takes nothing new and stops when its leases are done.\n`);
}

/** A node that is down and a folder that never had one are different answers: the second is mostly a mistyped --data. */
function refuseWithoutNode(dataDir: string): void {
  if (hasNodeKey(dataDir)) return;
  const what = existsSync(dataDir) ? 'holds no node (no node.key in it)' : 'does not exist';
  throw new OptionError(
    `There is no node in ${dataDir}: the folder ${what}. Name the node's folder with --data DIR, or start one there with "freehold node up --data ${dataDir} --coordinator … --engine …".`,
  );
}

/** By their names: what throws them is loaded last. Their texts say what to do. */
const TOLD: readonly string[] = ['InUseError', 'AddressError', 'EngineError'];

main().catch((error: unknown) => {
  const known =
    error instanceof OptionError ||
    error instanceof DamagedFileError ||
    error instanceof UnreadableFileError ||
    (error instanceof Error && TOLD.includes(error.name));
  process.stderr.write(`${known ? error.message : String(error instanceof Error ? error.stack : error)}\n`);
  process.exit(1);
});
