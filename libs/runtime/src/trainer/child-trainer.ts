import { spawn, type ChildProcess } from 'node:child_process';
import { sep } from 'node:path';
import {
  Trainer,
  TrainerError,
  type Artifact,
  type Evaluation,
  type PlannedTraining,
  type TrainerDescription,
  type TrainingEvents,
  type TrainingFiles,
} from '@freehold/market';
import {
  TRAINER_LINE_BYTES_MAX,
  TRAINER_VERSION,
  TrainerAnswer,
  type ExportFormat,
  type TrainerAnswerOf,
  type TrainerRequest,
  type TrainingPlan,
} from '@freehold/protocol';
import { childEnvironment, residentMib, RSS_WATCH_MS } from '../child-process/confinement.ts';
import { LineReader } from './json-lines.ts';

/** Importing PyTorch from a cold disk takes a minute. */
const HELLO_TIMEOUT_MS = 120_000;
/** A trainer that says nothing for this long is stuck: steps take seconds, reading the largest base minutes. */
const SILENCE_MS = 600_000;
const PING_TIMEOUT_MS = 30_000;
const CLOSE_GRACE_MS = 2_000;
const STDERR_KEPT_BYTES = 4_096;

export interface ChildTrainerSpec {
  readonly command: string;
  readonly args: readonly string[];
  /** Resident memory of the child; beyond it the child is killed. */
  readonly memoryMib: number;
  /** Ends the trainer for good. */
  readonly signal?: AbortSignal;
  readonly silenceMs?: number;
  /** Added to the bare environment, such as `CUDA_VISIBLE_DEVICES`. */
  readonly environment?: Readonly<Record<string, string>>;
}

type Ask = TrainerRequest extends infer Request ? (Request extends unknown ? Omit<Request, 'id'> : never) : never;
type LastType = 'hello' | 'plan' | 'done' | 'evaluation' | 'artifact' | 'pong';

interface Pending {
  readonly last: LastType;
  readonly resolve: (answer: TrainerAnswer) => void;
  readonly reject: (error: TrainerError) => void;
  readonly onAnswer: (answer: TrainerAnswer) => void;
  readonly heard: () => void;
}

/** A trainer in a process of its own, spoken to in JSON lines. It is started at once, once, and its death is final. */
export function childTrainer(spec: ChildTrainerSpec): ChildTrainer {
  return new ChildTrainer(spec);
}

export class ChildTrainer extends Trainer {
  readonly #spec: ChildTrainerSpec;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #pending = new Map<number, Pending>();
  readonly #watch: NodeJS.Timeout;
  #nextId = 1;
  #folder: string | undefined;
  #stderr = '';
  #death: TrainerError | undefined;

  constructor(spec: ChildTrainerSpec) {
    super();
    this.#spec = spec;
    this.#child = spawn(spec.command, [...spec.args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...childEnvironment(), ...spec.environment },
    });
    this.#exited = new Promise((resolve) => {
      this.#child.once('close', () => resolve());
      this.#child.once('error', () => resolve());
    });
    this.#listen();
    this.#watch = setInterval(() => this.#checkMemory(), RSS_WATCH_MS);
    this.#watch.unref();
    if (spec.signal?.aborted === true) void this.close();
    spec.signal?.addEventListener('abort', () => void this.close(), { once: true });
  }

  get pid(): number | undefined {
    return this.#death === undefined ? this.#child.pid : undefined;
  }

  async hello(): Promise<TrainerDescription> {
    const never = new AbortController().signal;
    return bare(await this.#ask({ type: 'hello', version: TRAINER_VERSION }, 'hello', never, HELLO_TIMEOUT_MS));
  }

  async plan(plan: TrainingPlan, files: TrainingFiles, signal: AbortSignal): Promise<PlannedTraining> {
    this.#folder = files.folder;
    return bare(await this.#ask({ type: 'plan', plan, ...files }, 'plan', signal));
  }

  async run(
    segments: { readonly from: number; readonly to: number; readonly checkpoint: string | null },
    events: TrainingEvents,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#ask({ type: 'run', ...segments }, 'done', signal, undefined, (answer) => {
      if (answer.type === 'step') events.onStep?.(bare(answer));
      if (answer.type === 'segment') events.onSegment?.(bare(answer));
    });
  }

  async evaluate(checkpoint: string | null, data: string, signal: AbortSignal): Promise<Evaluation> {
    return bare(await this.#ask({ type: 'evaluate', checkpoint, data }, 'evaluation', signal));
  }

  async export(checkpoint: string, format: ExportFormat, signal: AbortSignal): Promise<Artifact> {
    return bare(await this.#ask({ type: 'export', checkpoint, format }, 'artifact', signal));
  }

  async ping(): Promise<void> {
    await this.#ask({ type: 'ping' }, 'pong', new AbortController().signal, PING_TIMEOUT_MS);
  }

  async close(): Promise<void> {
    this.#die(new TrainerError('closed', 'The trainer was closed.', true));
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), CLOSE_GRACE_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  /** Sends one request and waits for its last answer. On abort the trainer is told to stop and the request fails at once. */
  async #ask<Last extends LastType>(
    ask: Ask,
    last: Last,
    signal: AbortSignal,
    silenceMs = this.#spec.silenceMs ?? SILENCE_MS,
    onAnswer: (answer: TrainerAnswer) => void = () => {},
  ): Promise<TrainerAnswerOf<Last>> {
    if (this.#death !== undefined) throw this.#death;
    const id = this.#nextId++;
    const stuck = (): void => {
      const message = `The trainer said nothing to ${ask.type} for ${silenceMs} ms and was ended.`;
      this.#kill(new TrainerError('process_timeout', message, true));
    };
    let timer = setTimeout(stuck, silenceMs);
    const onAbort = (): void => {
      this.#send({ type: 'cancel', id: this.#nextId++, target: id });
      this.#pending.get(id)?.reject(new TrainerError('cancelled', 'The request was cancelled.', true));
    };
    try {
      return await new Promise<TrainerAnswerOf<Last>>((resolve, reject) => {
        const heard = (): void => {
          clearTimeout(timer);
          timer = setTimeout(stuck, silenceMs);
        };
        const done = (answer: TrainerAnswer): void => resolve(answer as TrainerAnswerOf<Last>);
        this.#pending.set(id, { last, resolve: done, reject, onAnswer, heard });
        if (signal.aborted) return reject(new TrainerError('cancelled', 'The request was cancelled.', true));
        signal.addEventListener('abort', onAbort, { once: true });
        this.#send({ ...ask, id } as TrainerRequest);
      });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      this.#pending.delete(id);
    }
  }

  #listen(): void {
    const reader = new LineReader(TRAINER_LINE_BYTES_MAX);
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      if (this.#death !== undefined) return;
      try {
        for (const line of reader.push(chunk)) this.#receive(TrainerAnswer.parse(line));
      } catch (error) {
        const message = `The trainer broke its contract: ${String(error).slice(0, 512)}`;
        this.#kill(new TrainerError('process_broken', message, true));
      }
    });
    // A closed pipe is followed by the exit, which says why.
    this.#child.stdin?.on('error', () => this.#child.kill('SIGKILL'));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT_BYTES);
    });
    this.#child.once('error', (error) => this.#die(new TrainerError('process_not_started', error.message, true)));
    this.#child.once('close', (code, signal) => {
      const said = this.#stderr.trim().slice(-512);
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      const message = `The trainer process ended with ${how}${said === '' ? '.' : `: ${said}`}`;
      this.#die(new TrainerError('process_crashed', message, true));
    });
  }

  #receive(answer: TrainerAnswer): void {
    if (answer.id === null) throw new Error(answer.type === 'error' ? answer.message : 'an answer without a request');
    const pending = this.#pending.get(answer.id);
    // The end of a request that was cancelled, or the answer to its cancel.
    if (pending === undefined) return;
    pending.heard();
    if (answer.type === 'error') {
      const { code, message, retryable, line, step, checkpoint } = answer;
      pending.reject(new TrainerError(code, message, retryable, { line, step, checkpoint: checkpoint ?? undefined }));
      return;
    }
    this.#assertInside(answer);
    if (answer.type === pending.last) pending.resolve(answer);
    else if (answer.type === 'step' || answer.type === 'segment') pending.onAnswer(answer);
    else throw new Error(`"${answer.type}" answers no ${pending.last}`);
  }

  /** The child parses strangers' files: what it claims to have written is taken from its own folder only. */
  #assertInside(answer: TrainerAnswer): void {
    const files = answer.type === 'segment' ? [answer.checkpoint] : answer.type === 'artifact' ? answer.files : [];
    for (const { path } of files)
      if (this.#folder === undefined || !path.startsWith(this.#folder + sep) || path.split(sep).includes('..'))
        throw new Error(`${path} is not in the trainer's folder`);
  }

  #send(request: TrainerRequest): void {
    if (this.#child.stdin?.writable === true) this.#child.stdin.write(`${JSON.stringify(request)}\n`);
  }

  #checkMemory(): void {
    const rssMib = this.#child.pid === undefined ? undefined : residentMib(this.#child.pid);
    const { memoryMib } = this.#spec;
    if (rssMib === undefined || rssMib <= memoryMib) return;
    const message = `The trainer used ${Math.round(rssMib)} MiB of ${memoryMib} MiB and was ended. Give it more memory or smaller batches.`;
    this.#kill(new TrainerError('out_of_memory', message, true));
  }

  #kill(error: TrainerError): void {
    this.#die(error);
    this.#child.kill('SIGKILL');
  }

  #die(error: TrainerError): void {
    if (this.#death !== undefined) return;
    this.#death = error;
    clearInterval(this.#watch);
    for (const pending of [...this.#pending.values()]) pending.reject(error);
  }
}

/** An answer without its envelope. */
function bare<Answer extends { readonly type: string; readonly id: number }>(
  answer: Answer,
): Omit<Answer, 'type' | 'id'> {
  const { type: _type, id: _id, ...rest } = answer;
  return rest;
}
