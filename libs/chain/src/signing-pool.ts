import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { recoverAddress, type Hex } from 'viem';
import { sign } from 'viem/accounts';

/**
 * Elliptic curve work (about 3 ms to sign, 5 ms to recover) away from the event loop, so that chats do not wait behind it.
 *
 * Until a worker has loaded its library, and in a pool of none, the work is done in place: a first signature is never late.
 */
export class SigningPool {
  readonly #workers: readonly CurveWorker[];
  #next = 0;
  #isClosed = false;

  /** @param workers 0 does everything in place: for tests and for processes that sign now and then. */
  constructor(workers: number) {
    if (!Number.isInteger(workers) || workers < 0 || workers > WORKERS_MAX) {
      throw new RangeError(`A signing pool has 0 to ${WORKERS_MAX} workers, got ${workers}.`);
    }
    this.#workers = Array.from({ length: workers }, () => new CurveWorker());
  }

  async sign(privateKey: Hex, digest: Hex): Promise<Hex> {
    const signed = await this.#away({ do: 'sign', privateKey, digest });
    return signed ?? (await sign({ hash: digest, privateKey, to: 'hex' }));
  }

  /** @returns the checksummed address, null when no key made this signature. */
  async recover(digest: Hex, signature: Hex): Promise<Hex | null> {
    const recovered = await this.#away({ do: 'recover', digest, signature });
    if (recovered !== undefined) return recovered === '0x' ? null : recovered;
    try {
      return await recoverAddress({ hash: digest, signature });
    } catch {
      // The library throws for every point that is not on the curve: an answer, not a failure.
      return null;
    }
  }

  /** Resolves when every worker has loaded its library (or died, and its work is done in place). */
  async warm(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.settled));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#workers.map((worker) => worker.close()));
  }

  /** undefined: nobody is there to do it. */
  #away(task: CurveTask): Promise<Hex | undefined> {
    const ready = this.#isClosed ? [] : this.#workers.filter((worker) => worker.isReady);
    if (ready.length === 0) return Promise.resolve(undefined);
    this.#next = (this.#next + 1) % ready.length;
    const least = ready.reduce(
      (best, worker) => (worker.waiting < best.waiting ? worker : best),
      ready[this.#next] ?? ready[0]!,
    );
    return least.run(task);
  }
}

type CurveTask =
  | { readonly do: 'sign'; readonly privateKey: Hex; readonly digest: Hex }
  | { readonly do: 'recover'; readonly digest: Hex; readonly signature: Hex };

/** More than the cores of one machine would only take turns. */
const WORKERS_MAX = 16;
/** A worker that is this far behind is refused more: the caller does it in place, which is what slows the caller down. */
const WAITING_MAX = 1_000;

/** Plain JavaScript in a string: a worker thread cannot load TypeScript, and tests run on sources. Answers '0x' for "no key". */
const WORKER_SOURCE = `
const { parentPort, workerData } = require('node:worker_threads');
const { sign } = require(workerData.accounts);
const { recoverAddress } = require(workerData.utils);
async function answer(task) {
  if (task.do === 'sign') return sign({ hash: task.digest, privateKey: task.privateKey, to: 'hex' });
  return recoverAddress({ hash: task.digest, signature: task.signature }).catch(() => '0x');
}
parentPort.on('message', async ({ id, task }) => {
  try {
    parentPort.postMessage({ id, result: await answer(task) });
  } catch (error) {
    parentPort.postMessage({ id, error: String(error) });
  }
});
parentPort.postMessage({ ready: true });
`;

interface WorkerAnswer {
  readonly ready?: true;
  readonly id?: number;
  readonly result?: Hex;
  readonly error?: string;
}

class CurveWorker {
  readonly settled: Promise<void>;
  readonly #thread: Worker;
  readonly #waiting = new Map<number, { resolve(result: Hex | undefined): void; reject(error: Error): void }>();
  #lastId = 0;
  #isReady = false;

  constructor() {
    const resolver = createRequire(import.meta.url);
    this.#thread = new Worker(WORKER_SOURCE, {
      eval: true,
      workerData: { accounts: resolver.resolve('viem/accounts'), utils: resolver.resolve('viem/utils') },
      // Flags of this process (a test runner's) mean nothing there.
      execArgv: [],
    });
    this.settled = new Promise((resolve) => {
      this.#thread.once('message', () => resolve());
      this.#thread.once('exit', () => resolve());
    });
    this.#thread.unref();
    this.#thread.on('message', (message: WorkerAnswer) => this.#hear(message));
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
      this.#thread.postMessage({ id, task });
    });
  }

  async close(): Promise<void> {
    this.#isReady = false;
    await this.#thread.terminate();
  }

  #hear(message: WorkerAnswer): void {
    if (message.ready === true) this.#isReady = true;
    const waiter = this.#waiting.get(message.id ?? 0);
    if (message.id === undefined || waiter === undefined) return;
    this.#waiting.delete(message.id);
    if (this.#waiting.size === 0) this.#thread.unref();
    if (message.error === undefined) waiter.resolve(message.result);
    else waiter.reject(new Error(message.error));
  }

  /** What it had in hand is done in place by the callers. */
  #die(): void {
    this.#isReady = false;
    for (const waiter of this.#waiting.values()) waiter.resolve(undefined);
    this.#waiting.clear();
  }
}
