import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, isPortFree } from './free-port.ts';
import { identityOf, signalProcess, stopProcess } from './process-identity.ts';
import { readRunRecord, refuseWhenOwned, removeRunRecord, self, writeRunRecord } from './run-record.ts';

export interface AnvilOptions {
  /** The chain on disk; beside it `<file>.good` (the last copy known to be whole), `<file>.log` and `<file>.run.json`. */
  readonly stateFile: string;
  /** 0 or absent: any free port. */
  readonly port?: number;
  /** A block every so many seconds. Absent: a block per transaction, at once. */
  readonly blockTimeSeconds?: number;
  readonly chainId?: number;
  /** Stops the chain when aborted. */
  readonly signal?: AbortSignal;
  /** More flags of anvil, e.g. `['--slots-in-an-epoch', '1']`. */
  readonly flags?: readonly string[];
}

export interface EmbeddedAnvil {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly port: number;
  readonly chainId: number;
  readonly pid: number;
  readonly exited: Promise<void>;
  /** In order (the state is written), or `kill`: for fault tests, at most a second of blocks is lost. */
  stop(mode?: 'orderly' | 'kill'): Promise<void>;
}

/** The chain id that tools take for a local chain: never mistaken for one with real money. */
export const DEVELOPMENT_CHAIN_ID = 31_337;

const PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': '@foundry-rs/anvil-linux-amd64',
  'linux-arm64': '@foundry-rs/anvil-linux-arm64',
  'darwin-x64': '@foundry-rs/anvil-darwin-amd64',
  'darwin-arm64': '@foundry-rs/anvil-darwin-arm64',
};
/** How much of the chain a SIGKILL may cost. */
const STATE_INTERVAL_SECONDS = 1;
/** anvil overwrites its file in place, so a kill may tear it: a whole copy at most this old is kept beside it. */
const KEEP_GOOD_EVERY_MS = 5_000;
/** A state of 100 MB is read in about a second. */
const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
const LOOK_EVERY_MS = 25;
const PROBE_TIMEOUT_MS = 1_000;
const START_ATTEMPTS = 3;
const LOG_TAIL_LINES = 12;

/** Starts a development chain with its state on disk, and waits until it answers. An orphan over the same state is stopped first. */
export async function startAnvil(options: AnvilOptions): Promise<EmbeddedAnvil> {
  options.signal?.throwIfAborted();
  const stateFile = resolve(options.stateFile);
  mkdirSync(dirname(stateFile), { recursive: true });
  await stopOrphan(stateFile);
  restoreState(stateFile);
  const binary = anvilBinary();

  for (let attempt = 1; ; attempt++) {
    const wanted = options.port ?? 0;
    if (wanted !== 0 && !(await isPortFree(wanted))) {
      throw new Error(
        `Port ${wanted} on 127.0.0.1 is taken, so anvil cannot listen there. Choose another, or 0 for any free one.`,
      );
    }
    const port = wanted === 0 ? await freePort() : wanted;
    const child = launch(binary, stateFile, port, options);
    const chain = watch(child, stateFile, port, options.chainId ?? DEVELOPMENT_CHAIN_ID);
    const ready = await becomesReady(chain, options.signal);
    if (ready === 'ready') {
      options.signal?.addEventListener('abort', () => void chain.stop(), { once: true });
      return chain;
    }
    const tail = readFileSync(logFile(stateFile), 'utf8').trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
    await chain.stop('kill');
    removeRunRecord(recordFile(stateFile));
    options.signal?.throwIfAborted();
    if (wanted === 0 && attempt < START_ATTEMPTS && /in use/i.test(tail)) continue;
    throw new Error(
      `anvil on ${stateFile} ${ready === 'late' ? `did not answer within ${READY_TIMEOUT_MS / 1000} s` : 'ended'}. Its last words:\n${tail}`,
    );
  }
}

const logFile = (stateFile: string): string => `${stateFile}.log`;
const recordFile = (stateFile: string): string => `${stateFile}.run.json`;
const goodFile = (stateFile: string): string => `${stateFile}.good`;

/** The program itself, not npm's wrapper: the wrapper is one more process, and needs a postinstall to find it. */
function anvilBinary(): string {
  const platform = `${process.platform}-${process.arch}`;
  const name = PACKAGES[platform];
  const advice = 'Set RPC_URL to an Ethereum node of your own.';
  if (name === undefined)
    throw new Error(
      `No embedded chain for ${platform} (expected one of ${Object.keys(PACKAGES).join(', ')}). ${advice}`,
    );
  try {
    const fromWrapper = createRequire(createRequire(import.meta.url).resolve('@foundry-rs/anvil/package.json'));
    return join(dirname(fromWrapper.resolve(`${name}/package.json`)), 'bin', 'anvil');
  } catch (cause) {
    throw new Error(
      `The embedded chain for ${platform} is the npm package ${name}, which is not installed. Run "npm install ${name}", or: ${advice}`,
      { cause },
    );
  }
}

async function stopOrphan(stateFile: string): Promise<void> {
  const record = readRunRecord(recordFile(stateFile));
  if (!record) return;
  refuseWhenOwned(stateFile, record);
  await stopProcess(record.child, { signal: record.stopSignal, timeoutMs: record.stopTimeoutMs, group: false });
  removeRunRecord(recordFile(stateFile));
}

/** A torn state file would keep the chain from starting for ever: the last whole copy takes its place. */
function restoreState(stateFile: string): void {
  if (!existsSync(stateFile) && !existsSync(goodFile(stateFile))) return;
  if (existsSync(stateFile) && isWhole(readFileSync(stateFile, 'utf8'))) return;
  if (existsSync(goodFile(stateFile))) copyFileSync(goodFile(stateFile), stateFile);
  else renameSync(stateFile, `${stateFile}.torn`);
}

function isWhole(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    // Torn in the middle of a write: what this function is asked to find out.
    return false;
  }
}

function launch(binary: string, stateFile: string, port: number, options: AnvilOptions): ChildProcess {
  const args = [
    '--host',
    '127.0.0.1',
    '--port',
    String(port),
    '--chain-id',
    String(options.chainId ?? DEVELOPMENT_CHAIN_ID),
  ];
  args.push('--state', stateFile, '--state-interval', String(STATE_INTERVAL_SECONDS));
  if (options.blockTimeSeconds !== undefined) args.push('--block-time', String(options.blockTimeSeconds));
  args.push(...(options.flags ?? []));
  const log = openSync(logFile(stateFile), 'w', 0o600);
  try {
    return spawn(binary, args, { cwd: dirname(stateFile), detached: true, stdio: ['ignore', log, log] });
  } finally {
    closeSync(log);
  }
}

function watch(child: ChildProcess, stateFile: string, port: number, chainId: number): EmbeddedAnvil {
  const identity = child.pid === undefined ? undefined : identityOf(child.pid);
  const record = recordFile(stateFile);
  if (identity)
    writeRunRecord(record, {
      name: 'anvil',
      child: identity,
      owner: self(),
      stopSignal: 'SIGTERM',
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
  const keeper = setInterval(() => void keepGoodCopy(stateFile), KEEP_GOOD_EVERY_MS).unref();
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  void exited.then(() => clearInterval(keeper));
  const stop = async (mode: 'orderly' | 'kill' = 'orderly'): Promise<void> => {
    if (identity && mode === 'kill') signalProcess(identity, 'SIGKILL');
    else if (identity) await stopProcess(identity, { signal: 'SIGTERM', timeoutMs: STOP_TIMEOUT_MS, group: false });
    await exited;
    if (mode !== 'kill') removeRunRecord(record);
  };
  return { url: `http://127.0.0.1:${port}`, port, chainId, pid: child.pid ?? -1, exited, stop };
}

/** Copies the state aside when it is whole and newer than the copy. A torn read is simply tried again at the next turn. */
async function keepGoodCopy(stateFile: string): Promise<void> {
  try {
    const good = goodFile(stateFile);
    if (existsSync(good) && statSync(good).mtimeMs >= statSync(stateFile).mtimeMs) return;
    if (!isWhole(await readFile(stateFile, 'utf8'))) return;
    copyFileSync(stateFile, `${good}.new`);
    if (isWhole(await readFile(`${good}.new`, 'utf8'))) renameSync(`${good}.new`, good);
  } catch (error) {
    // No state written yet. Anything else (a full disk) must not take the chain down: the previous copy stays.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      process.emitWarning(`No fresh copy of ${stateFile}: ${String(error)}`);
  }
}

async function becomesReady(
  chain: EmbeddedAnvil,
  signal: AbortSignal | undefined,
): Promise<'ready' | 'ended' | 'late' | 'aborted'> {
  const until = performance.now() + READY_TIMEOUT_MS;
  let ended = false;
  void chain.exited.then(() => (ended = true));
  while (performance.now() < until) {
    if (ended) return 'ended';
    if (signal?.aborted === true) return 'aborted';
    if ((await chainIdAt(chain.url)) === chain.chainId) {
      // Whoever answers may be a stranger that took the port while ours failed on it: ours must still be there a moment later.
      await sleep(LOOK_EVERY_MS);
      return ended ? 'ended' : 'ready';
    }
    await sleep(LOOK_EVERY_MS);
  }
  return 'late';
}

async function chainIdAt(url: string): Promise<number | undefined> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}',
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
    return Number(((await response.json()) as { result?: string }).result);
  } catch {
    // Not listening yet: asked again in a moment, until the deadline.
    return undefined;
  }
}
