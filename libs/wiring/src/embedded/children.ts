import { type ChildProcess, spawn, type StdioOptions } from 'node:child_process';
import { closeSync, mkdirSync, openSync, realpathSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { beNice } from './be-nice.ts';
import { emptyLargeLog, isDiskFull, LOG_BYTES_MAX, LOG_LOOK_MS, note, putLargeLogAside } from './child-log.ts';
import { identityOf, isAlive, type ProcessIdentity, signalProcess, stopProcess } from './process-identity.ts';
import { listRunRecords, readRunRecord, refuseWhenOwned, removeRunRecord, self, writeRunRecord } from './run-record.ts';

export interface ChildSpec {
  /** Unique in the house; names the log and the record: letters, digits, dashes. */
  readonly name: string;
  /** Absent: this very Node. */
  readonly command?: string;
  readonly args: readonly string[];
  /** Added to the launcher's environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** As of nice(1), for it and what it starts: who answers goes before it on a busy machine. Absent: as ours. */
  readonly niceness?: number;
  readonly stopSignal?: NodeJS.Signals;
  /** How long the child may take to drain before it is killed. */
  readonly stopTimeoutMs?: number;
  /** Children of one group that were started one after the other stop side by side. Absent: one by one. */
  readonly stopGroup?: string;
  /** Opens an IPC channel: `message` reaches {@link onMessage}, and a child that listens to `disconnect` ends with its parent. */
  readonly ipc?: boolean;
  readonly onMessage?: (message: unknown) => void;
  /** Sees each line of the child's stdout as well as the log. Without it the log is written by the child itself and survives us. */
  readonly onLine?: (line: string) => void;
  /** Off when absent. A child that ends by itself is started again, so often, and after such a wait (doubled each time). */
  readonly restart?: { readonly attemptsMax: number; readonly delayMs: number };
}

export interface LogLimits {
  /** Of one log; what is above goes to `.1`. */
  readonly bytesMax?: number;
  readonly lookMs?: number;
}

export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface RunningChild {
  readonly name: string;
  /** Of the present incarnation. */
  readonly pid: number;
  readonly logFile: string;
  /** Resolves when the child has ended for good: no restart is left, or it was stopped. */
  readonly exited: Promise<ChildExit>;
  send(message: object): void;
  /** For fault tests: SIGKILL, SIGSTOP, SIGCONT. Restarts, if on, still happen. */
  signal(signal: NodeJS.Signals): boolean;
  /** For fault tests: it and all below it, for good. Without waiting. */
  killNow(): void;
  readonly isRunning: boolean;
  stop(timeoutMs?: number): Promise<'gone' | 'stopped' | 'killed'>;
}

/** `api` and `scheduler` drain in 25 s; a little more before the axe. */
const STOP_TIMEOUT_MS = 28_000;
/** Ctrl-C comes twice, from the terminal and from the script that started us: within this time it counts once. */
const SAME_SIGNAL_MS = 1_000;
/** Far longer than a claim takes, shorter than anyone's patience. */
const GATE_STALE_MS = 2_000;
/** As shells report a program that is not there. */
const COULD_NOT_START = 127;
/** For the embedded services, once everything else was killed. */
const HURRY_MS = 4_000;
/** Restarts wait longer each time, up to this; after a life that was longer than the second number it begins anew. */
const RESTART_DELAY_MAX_MS = 5_000;
const LIVED_WELL_MS = 5_000;
const NAME_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;
const EXIT_CODE_OF: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

/**
 * The children of one launcher over one data directory: their records (`run/`), their logs (`logs/`), their end.
 *
 * `open` claims the directory (a living launcher is never disturbed, a second one gets an {@link InUseError}) and stops
 * what an earlier, killed launcher left behind. Children are leaders of their own process group: Ctrl-C reaches the
 * launcher alone, which stops them in order, last started first; killing one takes its own children along.
 */
export class Children {
  readonly #children = new Map<string, Child>();
  readonly #place: { readonly run: string; readonly logs: string; readonly claim: string };
  readonly #logLook: NodeJS.Timeout;
  #closing: Promise<void> | undefined;

  private constructor(place: { run: string; logs: string; claim: string }, logs: Required<LogLimits>) {
    this.#place = place;
    this.#logLook = setInterval(() => {
      for (const { logFile } of this.#children.values()) emptyLargeLog(logFile, logs.bytesMax);
    }, logs.lookMs).unref();
  }

  /** Claims `<dataDir>` and clears it of orphans. Call {@link close} to give it back. */
  static async open(
    dataDir: string,
    { bytesMax = LOG_BYTES_MAX, lookMs = LOG_LOOK_MS }: LogLimits = {},
  ): Promise<Children> {
    mkdirSync(dataDir, { recursive: true });
    const at = realpathSync(dataDir);
    const place = { run: join(at, 'run'), logs: join(at, 'logs'), claim: join(at, 'launcher.json') };
    mkdirSync(place.run, { recursive: true });
    mkdirSync(place.logs, { recursive: true });
    await claim(at, place.claim);
    await stopOrphans(place.run);
    return new Children(place, { bytesMax, lookMs });
  }

  start(spec: ChildSpec): RunningChild {
    if (this.#closing) throw new Error(`Cannot start ${spec.name}: the launcher is stopping`);
    if (!NAME_PATTERN.test(spec.name))
      throw new Error(`Child name ${JSON.stringify(spec.name)}: expected ${String(NAME_PATTERN)}`);
    if (this.#children.get(spec.name)?.isRunning === true)
      throw new Error(`A child named ${spec.name} runs already: names are unique`);
    const child = new Child(
      spec,
      join(this.#place.run, `${spec.name}.json`),
      join(this.#place.logs, `${spec.name}.log`),
    );
    this.#children.set(spec.name, child);
    return child;
  }

  get(name: string): RunningChild | undefined {
    return this.#children.get(name);
  }

  /** Stops all, last started first, and gives the directory back. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#stopAll();
    return this.#closing;
  }

  /**
   * On SIGINT, SIGTERM or SIGHUP: `before`, then {@link close}, then `after` (e.g. stop the embedded services, which the
   * children need until their end), then exit with 128 + the signal's number. A second signal, a second or more later,
   * kills everything at once. A launcher that was itself started with an IPC channel stops in order when its parent is gone.
   */
  closeOnSignals(
    before: () => Promise<void> = () => Promise.resolve(),
    after: () => Promise<void> = () => Promise.resolve(),
  ): void {
    let first: number | undefined;
    const onSignal = (signal: NodeJS.Signals): void => {
      const code = EXIT_CODE_OF[signal] ?? 1;
      if (first !== undefined) {
        if (performance.now() - first < SAME_SIGNAL_MS) return;
        for (const child of this.#children.values()) child.killNow();
        // What the children needed goes too, as far as it can in a hurry: a second Ctrl-C leaves nothing behind either.
        void Promise.race([after(), sleep(HURRY_MS)]).finally(() => process.exit(code));
        return;
      }
      first = performance.now();
      before()
        .then(() => this.close())
        .then(after)
        .then(
          () => process.exit(code),
          (error: unknown) => {
            process.stderr.write(`Stopping failed: ${String(error)}\n`);
            process.exit(1);
          },
        );
    };
    process.on('SIGINT', onSignal).on('SIGTERM', onSignal).on('SIGHUP', onSignal);
    endWithParent(() => onSignal('SIGHUP'));
  }

  async #stopAll(): Promise<void> {
    const children = [...this.#children.values()];
    while (children.length > 0) {
      const group = children.at(-1)?.stopGroup;
      const together = children.splice(group === undefined ? -1 : startOfLastGroup(children, group));
      await Promise.all(together.map((child) => child.stop()));
    }
    clearInterval(this.#logLook);
    removeRunRecord(this.#place.claim);
  }
}

class Child implements RunningChild {
  readonly name: string;
  readonly logFile: string;
  readonly exited: Promise<ChildExit>;
  readonly #spec: ChildSpec;
  readonly #record: string;
  #process!: ChildProcess;
  #identity: ProcessIdentity | undefined;
  #stopping = false;
  #ended = false;

  constructor(spec: ChildSpec, record: string, logFile: string) {
    this.name = spec.name;
    this.logFile = logFile;
    this.#spec = spec;
    this.#record = record;
    putLargeLogAside(logFile);
    this.exited = this.#live();
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  get isRunning(): boolean {
    return !this.#ended;
  }

  get stopGroup(): string | undefined {
    return this.#spec.stopGroup;
  }

  send(message: object): void {
    if (this.#process.connected) this.#process.send(message);
  }

  signal(signal: NodeJS.Signals): boolean {
    return this.#identity !== undefined && signalProcess(this.#identity, signal);
  }

  async stop(timeoutMs = this.#spec.stopTimeoutMs ?? STOP_TIMEOUT_MS): Promise<'gone' | 'stopped' | 'killed'> {
    this.#stopping = true;
    const how = this.#identity
      ? await stopProcess(this.#identity, { signal: this.#spec.stopSignal ?? 'SIGTERM', timeoutMs, group: true })
      : 'gone';
    await this.exited;
    return how;
  }

  /** Without waiting: for the second Ctrl-C. */
  killNow(): void {
    this.#stopping = true;
    if (this.#identity && isAlive(this.#identity)) process.kill(-this.#identity.pid, 'SIGKILL');
  }

  /** One incarnation after the other, until it is stopped or no restart is left. */
  async #live(): Promise<ChildExit> {
    const { attemptsMax, delayMs } = this.#spec.restart ?? { attemptsMax: 0, delayMs: 0 };
    let inARow = 0;
    for (let attempt = 0; ; attempt++) {
      const bornMs = performance.now();
      const exit = await this.#spawn().catch((error: unknown) => outOfSpace(error, attempt));
      if (performance.now() - bornMs > LIVED_WELL_MS) inARow = 0;
      if (!this.#stopping && attempt < attemptsMax) await sleep(Math.min(RESTART_DELAY_MAX_MS, delayMs * 2 ** inARow));
      inARow += 1;
      // Looked at again after the wait: it may have been stopped meanwhile.
      if (this.#stopping || attempt >= attemptsMax) {
        this.#ended = true;
        removeRunRecord(this.#record);
        return exit;
      }
    }
  }

  async #spawn(): Promise<ChildExit> {
    const { command = process.execPath, args, cwd, env, niceness, ipc, onLine, onMessage } = this.#spec;
    const log = openSync(this.logFile, 'a', 0o600);
    note(log, `--- ${new Date().toISOString()} ${[command, ...args].join(' ')}`);
    const stdio: StdioOptions = ['ignore', onLine ? 'pipe' : log, log, ...(ipc === true ? (['ipc'] as const) : [])];
    const environment = { ...process.env, ...env };
    const child = spawn(command, args, {
      stdio,
      detached: true,
      env: environment,
      ...(cwd === undefined ? {} : { cwd }),
    });
    if (child.pid !== undefined && niceness !== undefined) void beNice(child.pid, niceness);
    this.#process = child;
    this.#identity = child.pid === undefined ? undefined : identityOf(child.pid);
    if (this.#identity) {
      const { stopSignal = 'SIGTERM', stopTimeoutMs = STOP_TIMEOUT_MS } = this.#spec;
      const record = { name: this.name, child: this.#identity, owner: self(), stopSignal, stopTimeoutMs };
      try {
        writeRunRecord(this.#record, record);
      } catch (error) {
        // A child that nobody could find again after our death must not live.
        signalProcess(this.#identity, 'SIGKILL');
        closeSync(log);
        throw error;
      }
    }
    if (onMessage) child.on('message', onMessage);
    if (onLine && child.stdout) {
      createInterface({ input: child.stdout }).on('line', (line) => {
        note(log, line);
        onLine(line);
      });
    }
    return new Promise((resolve) => {
      // `close` comes after the last line of stdout was read, `exit` may not. It also follows a failed start.
      child.once('close', (code, signal) => {
        closeSync(log);
        resolve(child.pid === undefined ? { code: COULD_NOT_START, signal: null } : { code, signal });
      });
      child.once('error', (error) => note(log, `--- error: ${error.message}`));
    });
  }
}

function startOfLastGroup(children: readonly Child[], group: string): number {
  return children.findLastIndex((child) => child.stopGroup !== group) + 1;
}

/** One launcher per data directory: `launcher.json` says who, and is taken over only from the dead. */
async function claim(dataDir: string, file: string): Promise<void> {
  const gate = `${file}.gate`;
  await enter(gate);
  try {
    const record = readRunRecord(file);
    if (record) refuseWhenOwned(dataDir, record);
    const me = self();
    writeRunRecord(file, {
      name: 'launcher',
      child: me,
      owner: me,
      stopSignal: 'SIGTERM',
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
  } finally {
    rmSync(gate, { force: true });
  }
}

/** Look and take must be one step when two start in the same instant: whoever creates the gate goes first. It is held for about a millisecond. */
async function enter(gate: string): Promise<void> {
  for (;;) {
    try {
      closeSync(openSync(gate, 'wx', 0o600));
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    // A launcher killed inside that millisecond must not lock the house for ever.
    const age = Date.now() - (statSync(gate, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (age > GATE_STALE_MS) rmSync(gate, { force: true });
    await sleep(10);
  }
}

async function stopOrphans(runDir: string): Promise<void> {
  await Promise.all(
    listRunRecords(runDir).map(async ({ file, record }) => {
      if (record.owner.pid !== process.pid && isAlive(record.owner)) return;
      await stopProcess(record.child, { signal: record.stopSignal, timeoutMs: record.stopTimeoutMs, group: true });
      removeRunRecord(file);
    }),
  );
}

/**
 * For a child: ends it when its parent is gone, however the parent went. Needs the IPC channel of {@link ChildSpec.ipc};
 * without one (started by hand) it does nothing.
 */
export function endWithParent(stop: () => void): void {
  if (process.connected !== true) return;
  process.once('disconnect', stop);
  // The channel alone is no reason to stay alive.
  process.channel?.unref();
}

/** A child that cannot be recorded on a full disk counts as one that ended: it is tried again. The very first start says why it failed. */
function outOfSpace(error: unknown, attempt: number): ChildExit {
  if (attempt > 0 && isDiskFull(error)) return { code: COULD_NOT_START, signal: null };
  throw error;
}
