/** The queues that placements are compared with, each as fast as its own documentation makes it. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import { Redis } from 'ioredis';

const ADD_AT_ONCE = 1_000;
/** A line per job would be most of the work. */
const SILENT = new Logger(() => () => undefined);

/** Redis that answers when a command is on the disk; null where there is no redis-server. */
export async function startRedis() {
  const folder = mkdtempSync(join(tmpdir(), 'freehold-redis-'));
  const socket = join(folder, 'redis.sock');
  const args = ['--port', '0', '--unixsocket', socket, '--dir', folder, '--save', '', '--appendonly', 'yes'];
  const child = spawn('redis-server', [...args, '--appendfsync', 'always'], { stdio: 'ignore' });
  const failed = new Promise((resolve) => child.once('error', resolve));
  const isThere = await Promise.race([failed.then(() => false), reachable(socket)]);
  const stop = async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    if (child.kill('SIGTERM')) await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  if (isThere) return { socket, stop };
  rmSync(folder, { recursive: true, force: true });
  return null;
}

/** @param {string} socket */
async function reachable(socket) {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const redis = new Redis(socket, { lazyConnect: true, retryStrategy: () => null });
    redis.on('error', () => undefined);
    try {
      await redis.connect();
      return true;
    } catch {
      await sleep(50);
    } finally {
      redis.disconnect();
    }
  }
  throw new Error('redis-server did not answer within five seconds');
}

/**
 * BullMQ, one job each: added in bulks, processed by one worker that does nothing.
 *
 * @param {string} socket
 * @param {number} count
 */
export async function bullmqRound(socket, count) {
  const connection = new Redis(socket, { maxRetriesPerRequest: null });
  const name = `bench${Math.random().toString(36).slice(2)}`;
  const queue = new Queue(name, { connection });
  let done = 0;
  const { finished, finish } = ending();
  const process = async () => {
    done += 1;
    if (done === count) finish();
  };
  const worker = new Worker(name, process, { connection, concurrency: 100, removeOnComplete: { count: 0 } });
  for (let at = 0; at < count; at += ADD_AT_ONCE) {
    const size = Math.min(ADD_AT_ONCE, count - at);
    await queue.addBulk(Array.from({ length: size }, (_, i) => ({ name: 'place', data: { id: at + i } })));
  }
  await finished;
  await worker.close();
  await queue.close();
  connection.disconnect();
  return done;
}

/**
 * graphile-worker, batched on both sides: added by arrays, fetched into a local queue, completed in batches.
 *
 * @param {string} url
 * @param {number} count
 */
export async function graphileRound(url, count) {
  const utils = await makeWorkerUtils({ connectionString: url, logger: SILENT });
  await utils.migrate();
  for (let at = 0; at < count; at += ADD_AT_ONCE) {
    const size = Math.min(ADD_AT_ONCE, count - at);
    const jobs = Array.from({ length: size }, (_, i) => ({ identifier: 'place', payload: { id: at + i } }));
    await utils.addJobs(jobs);
  }
  let done = 0;
  const { finished, finish } = ending();
  const runner = await run({
    noHandleSignals: true,
    logger: SILENT,
    preset: {
      worker: {
        connectionString: url,
        maxPoolSize: 4,
        concurrentJobs: 24,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        pollInterval: 500,
      },
    },
    taskList: {
      place: () => {
        done += 1;
        if (done === count) finish();
      },
    },
  });
  await finished;
  await runner.stop();
  await utils.release();
  return done;
}

/** A promise and what fulfils it. */
function ending() {
  /** @type {() => void} */
  let finish = () => undefined;
  /** @type {Promise<void>} */
  const finished = new Promise((resolve) => (finish = resolve));
  return { finished, finish: () => finish() };
}
