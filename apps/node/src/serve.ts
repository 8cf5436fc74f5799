import { join } from 'node:path';
import { EngineWithObjects } from '@freehold/market';
import { engineNamed, identityOf, machine, pinnedMarket, signingWith } from '@freehold/wiring/node';
import { endWithParent, rpcUrlGiven } from '@freehold/wiring/process';
import { nodeKey } from './key-file.ts';
import { LoadTimes } from './load-times.ts';
import { ObjectsAtHand } from './objects-at-hand.ts';
import type { NodeOptions } from './options.ts';
import { ProviderNode, type NodeLog } from './provider-node.ts';
import { engineInMode, Flapper } from './simulation.ts';
import { Speeds } from './speeds.ts';
import type { StatusFile } from './status-file.ts';

const STATUS_EVERY_MS = 2_000;
/** Kubernetes kills after 30 s; a drain has to be over by then. */
const STOP_MS = 25_000;

const log: NodeLog = (event, detail) =>
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), event, ...detail })}\n`);

/** Serves until it is told to stop, or its parent is gone. */
export async function serve(options: NodeOptions, statusFile: StatusFile): Promise<void> {
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
  const loads = await LoadTimes.open(options.dataDir, log);
  const engines = await Promise.all(
    options.engines.map(async (word) => {
      const engine = await engineNamed(word, options.dataDir, options.slots, objects);
      return engineInMode(new EngineWithObjects(loads.timed(engine), objects), options.mode, options.slowMs);
    }),
  );
  const speeds = await Speeds.open(options.dataDir, log);
  await speeds.benchmark(engines);
  const { gpus, cpu, memoryMib, diskFreeMib, isolation } = await machine(options.dataDir);
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
    loads,
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
      isolation: options.isolation ?? isolation,
    },
    region: options.region,
    noticeS: options.noticeS,
    exposureMax: options.exposureMax,
    unsignedMax: options.unsignedMax,
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
