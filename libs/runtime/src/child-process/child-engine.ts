import { Engine, EngineError, type ChatDelta, type EngineDescription } from '@freehold/market';
import type {
  ChatOutput,
  ChatWork,
  EmbeddingOutput,
  EmbeddingWork,
  FailedOutput,
  RowScore,
  Work,
  WorkOutput,
} from '@freehold/protocol';
import { childEntry, ChildLink } from './child-link.ts';
import { ANSWERS, type EngineCall, type EngineStart } from './messages.ts';

const START_TIMEOUT_MS = 60_000;
/** Clients give up after ten minutes; a row of one lease takes seconds. */
const CALL_TIMEOUT_MS = 120_000;
const CLOSE_GRACE_MS = 2_000;
/** A cancelled call that still holds the engine after this long has hung it. */
const BACKOFF_FIRST_MS = 100;
const BACKOFF_LAST_MS = 30_000;
/** A child that lived this long had no trouble starting: the next crash is a new story. */
const HEALTHY_AFTER_MS = 60_000;

export type ChildEngineSpec = EngineStart & {
  /** Resident memory of the child; beyond it the child is killed. */
  readonly memoryMib: number;
  /** Closes the engine for good. */
  readonly signal?: AbortSignal;
  readonly callTimeoutMs?: number;
  /** Ends the child after this long without a call, to give its memory back; the next call starts it again. */
  readonly idleMs?: number;
  /** Another program than the built child, for tests of what a broken child does. */
  readonly entry?: URL;
};

/** An engine in a process of its own that is started by the first call, and started again, later each time, when it dies. */
export function childEngine(spec: ChildEngineSpec): ChildEngine {
  return new ChildEngine(spec);
}

export class ChildEngine extends Engine {
  readonly #spec: ChildEngineSpec;
  #link: ChildLink | undefined;
  #startedAt = 0;
  #crashes = 0;
  #notBefore = 0;
  #inFlight = 0;
  #closed = false;
  #idle: NodeJS.Timeout | undefined;

  constructor(spec: ChildEngineSpec) {
    super();
    this.#spec = spec;
    if (spec.signal?.aborted === true) this.#closed = true;
    spec.signal?.addEventListener('abort', () => void this.close(), { once: true });
  }

  /** The process that runs now; undefined while none does. */
  get pid(): number | undefined {
    return this.#link?.dead === false ? this.#link.pid : undefined;
  }

  /** Resident memory of the process in MiB; undefined while none runs or the system does not show it. */
  get rssMib(): number | undefined {
    return this.#link?.dead === false ? this.#link.rssMib() : undefined;
  }

  async describe(): Promise<EngineDescription> {
    return ANSWERS.describe.parse(await this.#call({ call: 'describe' }, () => {}, undefined));
  }

  async chat(
    model: string,
    work: ChatWork,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal,
  ): Promise<ChatOutput | FailedOutput> {
    return this.#parsed(ANSWERS.chat, await this.#call({ call: 'chat', model, work }, onDelta, signal));
  }

  async embed(model: string, work: EmbeddingWork, signal: AbortSignal): Promise<EmbeddingOutput | FailedOutput> {
    return this.#parsed(ANSWERS.embed, await this.#call({ call: 'embed', model, work }, () => {}, signal));
  }

  async score(model: string, rowNo: number, work: Work, committed: WorkOutput, signal: AbortSignal): Promise<RowScore> {
    return this.#parsed(
      ANSWERS.score,
      await this.#call({ call: 'score', model, rowNo, work, committed }, () => {}, signal),
    );
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    const link = this.#link;
    this.#link = undefined;
    await link?.close(CLOSE_GRACE_MS);
  }

  async #call(
    call: EngineCall,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    const timeoutMs = this.#spec.callTimeoutMs ?? CALL_TIMEOUT_MS;
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), timeoutMs);
    const either = signal === undefined ? deadline.signal : AbortSignal.any([signal, deadline.signal]);
    clearTimeout(this.#idle);
    this.#inFlight += 1;
    try {
      const link = await this.#running(either);
      return await link.call(call, onDelta, either);
    } catch (error) {
      if (!deadline.signal.aborted || signal?.aborted === true) throw error;
      // What does not answer in time may never: a fresh process is worth more than the calls it still holds.
      const late = new EngineError(
        'engine_timeout',
        `No answer to ${call.call} within ${timeoutMs} ms; the engine is started anew.`,
        true,
      );
      this.#link?.kill(late);
      throw late;
    } finally {
      clearTimeout(timer);
      this.#inFlight -= 1;
      this.#armIdle();
    }
  }

  /** The live child, starting one when there is none. Concurrent callers share one start. */
  async #running(signal: AbortSignal): Promise<ChildLink> {
    this.#assertOpen();
    if (this.#link === undefined || this.#link.dead) {
      await this.#backOff(signal);
      this.#assertOpen();
      if (this.#link === undefined || this.#link.dead) this.#link = this.#start();
    }
    const link = this.#link;
    await orAborted(link.ready, signal);
    return link;
  }

  #start(): ChildLink {
    const { memoryMib, entry } = this.#spec;
    const start = { engine: this.#spec.engine, options: this.#spec.options } as EngineStart;
    const link = new ChildLink({ start, memoryMib, entry: entry ?? childEntry() });
    const slow = setTimeout(() => {
      link.kill(
        new EngineError('engine_start_timeout', `The engine was not ready within ${START_TIMEOUT_MS} ms.`, true),
      );
    }, START_TIMEOUT_MS);
    slow.unref();
    this.#startedAt = performance.now();
    const started = (): void => clearTimeout(slow);
    link.ready.then(started, started);
    void link.exited.then(() => this.#ended(link));
    return link;
  }

  /** Counts a death that nobody asked for, and lets the next start wait twice as long. */
  #ended(link: ChildLink): void {
    if (this.#closed || this.#link !== link) return;
    this.#crashes = performance.now() - this.#startedAt > HEALTHY_AFTER_MS ? 1 : this.#crashes + 1;
    this.#notBefore = performance.now() + Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** (this.#crashes - 1));
  }

  async #backOff(signal: AbortSignal): Promise<void> {
    if (this.#link?.dead === true) await this.#link.exited;
    const waitMs = this.#notBefore - performance.now();
    if (waitMs <= 0) return;
    await orAborted(new Promise((resolve) => setTimeout(resolve, waitMs)), signal);
  }

  #armIdle(): void {
    const { idleMs } = this.#spec;
    if (idleMs === undefined || this.#inFlight > 0 || this.#closed) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      const link = this.#link;
      this.#link = undefined;
      void link?.close(CLOSE_GRACE_MS);
    }, idleMs);
    this.#idle.unref();
  }

  #assertOpen(): void {
    if (this.#closed) throw new EngineError('engine_closed', 'The engine was closed.', false);
  }

  /** An answer of another shape is a broken engine, not a bad row. */
  #parsed<T>(schema: { parse(value: unknown): T }, value: unknown): T {
    try {
      return schema.parse(value);
    } catch (error) {
      const broken = new EngineError(
        'engine_broken',
        `The engine answered in another shape: ${String(error).slice(0, 512)}`,
        true,
      );
      this.#link?.kill(broken);
      throw broken;
    }
  }
}

async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new EngineError('aborted', 'The call was cancelled.', true));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
