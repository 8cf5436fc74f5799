import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../devnet/redis-line.ts';
import { freePort } from './free-port.ts';

/** A Redis for tests, that nobody else relies on. */
export interface TestRedis {
  readonly url: string;
  /** How many keys it holds. */
  size(): Promise<number>;
  stop(): Promise<void>;
}

const READY_TIMEOUT_MS = 10_000;
const LOOK_EVERY_MS = 20;

/** Starts the `redis-server` on the PATH on a port and a folder of its own; null, with a line that says so, when there is none. */
export async function testRedis(password?: string): Promise<TestRedis | null> {
  if (spawnSync('redis-server', ['--version']).status !== 0) {
    process.stderr.write('skipped: no redis-server on the PATH\n');
    return null;
  }
  const dir = mkdtempSync(join(tmpdir(), 'freehold-test-redis-'));
  const port = await freePort();
  const secret = password === undefined ? [] : ['--requirepass', password];
  // Nothing on the disk, and never out of memory by forgetting: what BullMQ asks for.
  const memory = ['--save', '', '--appendonly', 'no', '--maxmemory-policy', 'noeviction'];
  const child = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, ...memory, ...secret],
    {
      stdio: 'ignore',
    },
  );
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    rmSync(dir, { recursive: true, force: true });
  };
  for (const until = performance.now() + READY_TIMEOUT_MS; !(await listens(port)); await sleep(LOOK_EVERY_MS)) {
    if (child.exitCode === null && performance.now() < until) continue;
    await stop();
    throw new Error(`redis-server did not listen on port ${port} (exit code ${child.exitCode})`);
  }
  const url = `redis://${password === undefined ? '' : `:${password}@`}127.0.0.1:${port}`;
  return {
    url,
    size: async () => {
      const auth = password === undefined ? [] : [['AUTH', password]];
      const answers = await ask(new URL(url), [...auth, ['DBSIZE']], READY_TIMEOUT_MS);
      return Number(answers.at(-1)?.slice(1));
    },
    stop,
  };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(socket.destroy() !== undefined));
    socket.once('error', () => resolve(false));
  });
}
