import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { EngineWithObjects } from '@freehold/market';
import {
  endWithParent,
  engineNamed,
  identityOf,
  machine,
  outliveFullLog,
  pinnedMarket,
  rpcUrlGiven,
  signalProcess,
  signingWith,
} from '@freehold/wiring/node';
import { FOLDER_MODE } from './durable-files.ts';
import { addExits } from './exit/commands.ts';
import { hasNodeKey, nodeKey } from './key-file.ts';
import { ObjectsAtHand } from './objects-at-hand.ts';
import { DEFAULT_EXPOSURE_MAX, nodeOptions, OptionError, type NodeOptions, type RawOptions } from './options.ts';
import { ProviderNode, type NodeLog } from './provider-node.ts';
import { engineInMode, Flapper, SLOW_MS_DEFAULT } from './simulation.ts';
import { Speeds } from './speeds.ts';
import { StatusFile } from './status-file.ts';

const STATUS_EVERY_MS = 2_000;
/** Kubernetes kills after 30 s; a drain has to be over by then. */
const STOP_MS = 25_000;
const DEFAULT_DATA = '.freehold/node';

const log: NodeLog = (event, detail) =>
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), event, ...detail })}\n`);
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
    .option('--slots <n>', 'concurrent sequences per model, instead of what the engine says')
    .option('--chat-share <percent>', 'of the slots, at most this much for chat', '50')
    .option('--exposure-max <amount>', 'stop serving above this much uncashed work', String(DEFAULT_EXPOSURE_MAX))
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
  await program.parseAsync();
}

async function up(options: NodeOptions): Promise<void> {
  outliveFullLog();
  mkdirSync(options.dataDir, { recursive: true, mode: FOLDER_MODE });
  const statusFile = new StatusFile(options.dataDir);
  await statusFile.claim();
  if (options.mode !== 'honest')
    log('SIMULATION', {
      mode: options.mode,
      warning: `This node does not behave: it simulates a ${options.mode}. Never run it against a market that is meant seriously.`,
    });
  const node = await startNode(options);
  const writeStatus = (): void =>
    statusFile.write({
      ...node.status(),
      rssMib: Math.round(process.memoryUsage().rss / 2 ** 20),
      cpuS: process.cpuUsage().user / 1e6,
    });
  writeStatus();
  setInterval(writeStatus, STATUS_EVERY_MS).unref();
  endWith(node);
  const { node: peer, address } = node.status();
  if (options.json)
    process.stdout.write(
      `${JSON.stringify({ ready: true, node: peer, address, models: node.models, dataDir: options.dataDir, mode: options.mode })}\n`,
    );
  else log('serving', { node: peer, address, models: node.models });
}

async function startNode(options: NodeOptions): Promise<ProviderNode> {
  const privateKeyHex = await nodeKey(options.dataDir);
  const identity = identityOf(privateKeyHex);
  const objects = await ObjectsAtHand.open(options.dataDir);
  const engines = await Promise.all(
    options.engines.map(async (word) => {
      const engine = await engineNamed(word, options.dataDir, options.slots, objects);
      return engineInMode(new EngineWithObjects(engine, objects), options.mode, options.slowMs);
    }),
  );
  const speeds = await Speeds.open(options.dataDir);
  await speeds.benchmark(engines);
  const { gpus, cpu, memoryMib, diskFreeMib } = await machine(options.dataDir);
  const flapper = options.mode === 'flapper' ? new Flapper(join(options.dataDir, 'flapper-deaths')) : null;
  return await ProviderNode.start({
    dataDir: options.dataDir,
    privateKeyHex,
    identity,
    payout: options.payout ?? identity.address,
    coordinators: options.coordinators,
    engines,
    objects,
    speeds,
    seats: options,
    machine: {
      gpus: gpus.map((gpu) => ({
        model: gpu.model.slice(0, 64),
        vramMib: gpu.vramMib,
        computeCapability: (gpu.computeCapability ?? '').slice(0, 16),
        driver: gpu.driver.slice(0, 32),
        milli: 1_000,
      })),
      cpuMilli: cpu.threads * 1_000,
      memoryMib,
      diskMib: diskFreeMib,
      isolation: 'none',
    },
    region: options.region,
    noticeS: options.noticeS,
    exposureMax: options.exposureMax,
    rpcUrl: options.rpc ?? rpcUrlGiven() ?? null,
    signing: signingWith(privateKeyHex),
    pinned: pinnedMarket(),
    ...(flapper === null ? {} : { onRows: (lease: string, done: number) => flapper.afterRows(lease, done) }),
    log,
  });
}

/** SIGTERM, SIGINT and the parent's death stop within 25 s; SIGUSR2 (`drain`) takes as long as the leases do. */
function endWith(node: ProviderNode): void {
  let stopping = false;
  const stop = (why: string, before: Promise<void>): void => {
    if (stopping) return;
    stopping = true;
    log('stopping', { why });
    void before
      .then(async () => await node.stop(STOP_MS))
      .catch((error: unknown) =>
        log('stop-failed', { message: error instanceof Error ? error.message : String(error) }),
      )
      .finally(() => process.exit(0));
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal, Promise.resolve()));
  process.on('SIGUSR2', () => {
    log('draining', {});
    void node.drain().then(() => stop('drained', Promise.resolve()));
  });
  endWithParent(() => stop('the parent is gone', Promise.resolve()));
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

main().catch((error: unknown) => {
  const known = error instanceof OptionError || (error instanceof Error && error.name === 'InUseError');
  process.stderr.write(`${known ? error.message : String(error instanceof Error ? error.stack : error)}\n`);
  process.exit(1);
});
