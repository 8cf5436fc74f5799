import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import type { Hex } from 'viem';
import { isNative, NATIVE_CURVE, recoverDigest, signDigest } from './curve.ts';

/**
 * Elliptic curve work away from the event loop, so that chats do not wait behind the signatures of batches.
 *
 * Until a worker has loaded its library, and in a pool of none, the work is done in place: a first signature is never late. So
 * is the first of each turn of the loop where the native library is there: it takes a fifth of what a thread's message costs.
 */
export class SigningPool {
  readonly #workers: readonly CurveWorker[];
  #next = 0;
  #isClosed = false;
  /** Whether this turn has done one in place already. */
  #isTurnTaken = false;

  /** @param workers 0 does everything in place: for tests and for processes that sign now and then. */
  constructor(workers: number) {
    if (!Number.isInteger(workers) || workers < 0 || workers > WORKERS_MAX) {
      throw new RangeError(`A signing pool has 0 to ${WORKERS_MAX} workers, got ${workers}.`);
    }
    this.#workers = Array.from({ length: workers }, () => new CurveWorker());
  }

  async sign(privateKey: Hex, digest: Hex): Promise<Hex> {
    const signed = await this.#away({ do: 'sign', privateKey, digest });
    return signed ?? signDigest(privateKey, digest);
  }

  /** @returns the address in lower case, null when no key made this signature. */
  async recover(digest: Hex, signature: Hex): Promise<Hex | null> {
    const recovered = await this.#away({ do: 'recover', digest, signature });
    if (recovered !== undefined) return recovered === NOBODY ? null : recovered;
    return recoverDigest(digest, signature);
  }

  /** Resolves when every worker has loaded its library (or died, and its work is done in place). */
  async warm(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.warm()));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#workers.map((worker) => worker.close()));
  }

  /** undefined: nobody is there to do it. */
  #away(task: CurveTask): Promise<Hex | undefined> {
    const ready = this.#isClosed ? [] : this.#workers.filter((worker) => worker.isReady);
    if (ready.length === 0 || this.#takesTurn()) return Promise.resolve(undefined);
    this.#next = (this.#next + 1) % ready.length;
    const least = ready.reduce(
      (best, worker) => (worker.waiting < best.waiting ? worker : best),
      ready[this.#next] ?? ready[0]!,
    );
    return least.run(task);
  }

  #takesTurn(): boolean {
    if (!isNative || this.#isTurnTaken) return false;
    this.#isTurnTaken = true;
    setImmediate(() => (this.#isTurnTaken = false));
    return true;
  }
}

type CurveTask =
  | { readonly do: 'sign'; readonly privateKey: Hex; readonly digest: Hex }
  | { readonly do: 'recover'; readonly digest: Hex; readonly signature: Hex };

/** More than the cores of one machine would only take turns. */
const WORKERS_MAX = 16;
/** A worker that is this far behind is refused more: the caller does it in place, which is what slows the caller down. */
const WAITING_MAX = 1_000;

/** What a worker answers for a signature that no key made: a message carries no null. */
const NOBODY: Hex = '0x';

/**
 * Plain JavaScript in a string: a worker thread cannot load TypeScript, and tests run on sources. It says the same as
 * `curve.ts`, which the tests hold against each other. Tasks come and go in arrays: a message costs as much as a signature.
 */
const WORKER_SOURCE = `
const { parentPort, workerData } = require('node:worker_threads');
const { keccak256, recoverAddress } = require(workerData.utils);
const { sign } = require(workerData.accounts);
let native = null;
try {
  native = require(workerData.native);
} catch {
  // No build for this machine: viem's JavaScript stands in.
}
const bytesOf = (hex) => Buffer.from(hex.slice(2), 'hex');
async function signed({ digest, privateKey }) {
  if (native === null) return sign({ hash: digest, privateKey, to: 'hex' });
  const { signature, recid } = native.ecdsaSign(bytesOf(digest), bytesOf(privateKey));
  return '0x' + Buffer.from(signature).toString('hex') + (27 + recid).toString(16);
}
async function signerOf({ digest, signature }) {
  const bytes = bytesOf(signature);
  const recid = bytes[64] - 27;
  if (bytes.length !== 65 || (recid !== 0 && recid !== 1)) return '0x';
  try {
    if (native === null) return (await recoverAddress({ hash: digest, signature })).toLowerCase();
    return '0x' + keccak256(native.ecdsaRecover(bytes.subarray(0, 64), recid, bytesOf(digest), false).subarray(1)).slice(-40);
  } catch {
    // No point of the curve: an answer, not a failure.
    return '0x';
  }
}
async function answer({ id, task }) {
  try {
    return { id, result: await (task.do === 'sign' ? signed(task) : signerOf(task)) };
  } catch (error) {
    return { id, error: String(error) };
  }
}
parentPort.on('message', async (tasks) => parentPort.postMessage({ answers: await Promise.all(tasks.map(answer)) }));
parentPort.postMessage({ ready: true });
`;

interface WorkerMessage {
  readonly ready?: true;
  readonly answers?: readonly { readonly id: number; readonly result?: Hex; readonly error?: string }[];
}

class CurveWorker {
  readonly #settled: Promise<void>;
  readonly #thread: Worker;
  readonly #waiting = new Map<number, { resolve(result: Hex | undefined): void; reject(error: Error): void }>();
  readonly #gathered: { readonly id: number; readonly task: CurveTask }[] = [];
  #lastId = 0;
  #isReady = false;

  constructor() {
    const resolver = createRequire(import.meta.url);
    this.#thread = new Worker(WORKER_SOURCE, {
      eval: true,
      workerData: {
        native: nativePath(resolver),
        accounts: resolver.resolve('viem/accounts'),
        utils: resolver.resolve('viem/utils'),
      },
      // Flags of this process (a test runner's) mean nothing there.
      execArgv: [],
    });
    this.#settled = new Promise((resolve) => {
      this.#thread.once('message', () => resolve());
      this.#thread.once('exit', () => resolve());
    });
    this.#thread.unref();
    this.#thread.on('message', (message: WorkerMessage) => this.#hear(message));
    this.#thread.on('error', () => this.#die());
    this.#thread.on('exit', () => this.#die());
  }

  get isReady(): boolean {
    return this.#isReady && this.#waiting.size < WAITING_MAX;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  run(task: CurveTask): Promise<Hex | undefined> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      // Only while somebody waits does the thread keep the process alive.
      if (this.#waiting.size === 0) this.#thread.ref();
      this.#waiting.set(id, { resolve, reject });
      if (this.#gathered.length === 0) queueMicrotask(() => this.#post());
      this.#gathered.push({ id, task });
    });
  }

  /** Everything that was asked for in one go travels as one message. */
  #post(): void {
    this.#thread.postMessage(this.#gathered.splice(0));
  }

  /** Keeps the process alive until the thread has loaded its library. */
  async warm(): Promise<void> {
    if (!this.#isReady) this.#thread.ref();
    await this.#settled;
  }

  async close(): Promise<void> {
    this.#isReady = false;
    await this.#thread.terminate();
  }

  #hear(message: WorkerMessage): void {
    if (message.ready === true) this.#isReady = true;
    for (const { id, result, error } of message.answers ?? []) {
      const waiter = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiter?.resolve(result);
      else waiter?.reject(new Error(error));
    }
    if (this.#waiting.size === 0) this.#thread.unref();
  }

  /** What it had in hand is done in place by the callers. */
  #die(): void {
    this.#isReady = false;
    for (const waiter of this.#waiting.values()) waiter.resolve(undefined);
    this.#waiting.clear();
  }
}

/** Where the native library's package is; a name that leads nowhere when it is not installed, and the worker does without. */
function nativePath(resolver: NodeJS.Require): string {
  try {
    return resolver.resolve(NATIVE_CURVE);
  } catch {
    // The package is left out of some installs; the worker's own require answers the same.
    return NATIVE_CURVE;
  }
}
