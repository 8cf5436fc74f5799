import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { EngineError, type ChatDelta } from '@freehold/market';
import { childEnvironment, heapFlags, residentMib, RSS_WATCH_MS } from './confinement.ts';
import { encodeFrame, FrameReader } from './frames.ts';
import { FromChild, type EngineCall, type EngineStart, type Fault, type ToChild } from './messages.ts';

/** The channel is the child's fourth descriptor: stdout and stderr stay free for what native libraries print. */
export const CHANNEL_FD = 3;
const STDERR_KEPT_BYTES = 4_096;

export interface ChildSpec {
  readonly start: EngineStart;
  readonly memoryMib: number;
  readonly entry: URL;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: EngineError) => void;
  readonly onDelta: (delta: ChatDelta) => void;
}

/** The built child beside this file; sources (tests) use the build's. */
export function childEntry(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? '../../dist/child-process/child.js' : './child.js', import.meta.url);
}

/**
 * One live engine process: from its start to its death, which may come at any time and is final.
 *
 * The child dies with its parent, because the channel then closes. Its resident memory is watched from outside, as no
 * process can be trusted to count itself: over the limit it is killed, and what was in flight fails as retryable.
 */
export class ChildLink {
  readonly ready: Promise<void>;
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  readonly #channel: Duplex;
  readonly #pending = new Map<number, Pending>();
  readonly #watch: NodeJS.Timeout;
  readonly #spec: ChildSpec;
  #nextId = 1;
  #stderr = '';
  #death: EngineError | undefined;
  #settleReady: { resolve: () => void; reject: (error: EngineError) => void } = { resolve: () => {}, reject: () => {} };

  constructor(spec: ChildSpec) {
    this.#spec = spec;
    const entry = fileURLToPath(spec.entry);
    if (!existsSync(entry))
      throw new EngineError('engine_not_built', `${entry} is missing: run \`npm run build\`.`, false);
    this.#child = spawn(process.execPath, [...heapFlags(spec.memoryMib), entry], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      env: childEnvironment(),
    });
    this.#channel = this.#child.stdio[CHANNEL_FD] as Duplex;
    this.ready = new Promise((resolve, reject) => (this.#settleReady = { resolve, reject }));
    this.ready.catch(() => {
      // Whoever calls sees it; a child that dies before its first call must not end the node.
    });
    this.exited = new Promise((resolve) => this.#child.once('close', () => resolve()));
    this.#listen();
    this.#watch = setInterval(() => this.#checkMemory(), RSS_WATCH_MS);
    this.#watch.unref();
    this.#send({ type: 'start', start: spec.start });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get dead(): boolean {
    return this.#death !== undefined;
  }

  /** Sends one call. On abort the child is told to stop and the call fails at once. */
  async call(call: EngineCall, onDelta: (delta: ChatDelta) => void, signal: AbortSignal): Promise<unknown> {
    if (this.#death !== undefined) throw this.#death;
    const id = this.#nextId++;
    return new Promise<unknown>((resolve, reject) => {
      const onAbort = (): void => {
        this.#send({ type: 'cancel', id });
        settle(() => reject(new EngineError('aborted', 'The call was cancelled.', true)));
      };
      const settle = (finish: () => void): void => {
        signal.removeEventListener('abort', onAbort);
        this.#pending.delete(id);
        finish();
      };
      this.#pending.set(id, {
        resolve: (value) => settle(() => resolve(value)),
        reject: (error) => settle(() => reject(error)),
        onDelta,
      });
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) return onAbort();
      try {
        this.#send({ type: 'call', id, call });
      } catch (error) {
        settle(() => reject(new EngineError('request_too_large', String(error), false)));
      }
    });
  }

  /** Resident memory in MiB, where the system shows it. */
  rssMib(): number | undefined {
    return this.#child.pid === undefined ? undefined : residentMib(this.#child.pid);
  }

  /** Ends the process; everything in flight fails with `error`. */
  kill(error: EngineError): void {
    this.#die(error);
    this.#child.kill('SIGKILL');
  }

  /** Closes the channel, which the child takes as its end; killed if it does not go by itself. */
  async close(graceMs: number): Promise<void> {
    this.#die(new EngineError('engine_closed', 'The engine was closed.', true));
    this.#channel.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), graceMs);
    await this.exited;
    clearTimeout(timer);
  }

  #listen(): void {
    const reader = new FrameReader();
    this.#channel.on('data', (chunk: Buffer) => {
      try {
        for (const message of reader.push(chunk)) this.#receive(FromChild.parse(message));
      } catch (error) {
        this.kill(new EngineError('engine_broken', `The engine process broke its protocol: ${String(error)}`, true));
      }
    });
    // A closed channel is followed by the exit, which says why.
    this.#channel.on('error', () => this.#child.kill('SIGKILL'));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT_BYTES);
    });
    this.#child.once('error', (error) => this.#die(new EngineError('engine_not_started', error.message, true)));
    this.#child.once('close', (code, signal) => {
      const said = this.#stderr.trim().slice(-512);
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      this.#die(
        new EngineError(
          'engine_crashed',
          `The engine process ended with ${how}${said === '' ? '.' : `: ${said}`}`,
          true,
        ),
      );
    });
  }

  #receive(message: FromChild): void {
    switch (message.type) {
      case 'ready':
        return this.#settleReady.resolve();
      case 'failed':
        return this.kill(errorOf(message.fault));
      case 'delta':
        return this.#pending.get(message.id)?.onDelta({ text: message.text, tokens: message.tokens });
      case 'done':
        return this.#pending.get(message.id)?.resolve(message.value);
      case 'error':
        return this.#pending.get(message.id)?.reject(errorOf(message.fault));
    }
  }

  #send(message: ToChild): void {
    const frame = encodeFrame(message);
    if (this.#channel.writable) this.#channel.write(frame);
  }

  #checkMemory(): void {
    const rssMib = this.rssMib();
    if (rssMib === undefined || rssMib <= this.#spec.memoryMib) return;
    const message = `The engine process used ${Math.round(rssMib)} MiB of ${this.#spec.memoryMib} MiB and was ended. Give it more memory or fewer slots.`;
    this.kill(new EngineError('engine_out_of_memory', message, true));
  }

  #die(error: EngineError): void {
    if (this.#death !== undefined) return;
    this.#death = error;
    clearInterval(this.#watch);
    this.#settleReady.reject(error);
    for (const pending of [...this.#pending.values()]) pending.reject(error);
  }
}

function errorOf(fault: Fault): EngineError {
  return new EngineError(fault.code, fault.message, fault.retryable);
}
