import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * One process, told apart from every later process that gets the same number.
 *
 * A pid alone is reused by the kernel; a pid together with the moment it started is not, so nothing is ever
 * signalled on the strength of a number found in an old file.
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** Opaque: compared for equality only. On Linux `<boot id>:<start in clock ticks since boot>`. */
  readonly startedAs: string;
}

/** How often a dying process is looked at: short enough that a stop is not felt, long enough to cost nothing. */
const LOOK_EVERY_MS = 20;
/** A process that survives SIGKILL for this long hangs in the kernel; waiting longer would not help. */
const KILL_WAIT_MS = 5_000;

let bootId: string | undefined;

/** The identity of a living process, or undefined when there is none (a zombie counts as none: it runs no code). */
export function identityOf(pid: number): ProcessIdentity | undefined {
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  const startedAs = process.platform === 'linux' ? startOnLinux(pid) : startByPs(pid);
  return startedAs === undefined ? undefined : { pid, startedAs };
}

/** Whether the very process that was recorded still runs. */
export function isAlive(recorded: ProcessIdentity): boolean {
  return identityOf(recorded.pid)?.startedAs === recorded.startedAs;
}

/** Reads an identity out of a parsed JSON record; undefined when the record is torn or of another make. */
export function asIdentity(value: unknown): ProcessIdentity | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { pid, startedAs } = value as { pid?: unknown; startedAs?: unknown };
  return typeof pid === 'number' && typeof startedAs === 'string' ? { pid, startedAs } : undefined;
}

/** Signals a recorded process, and never a stranger that got its number. False when it is gone. */
export function signalProcess(target: ProcessIdentity, signal: NodeJS.Signals): boolean {
  return isAlive(target) && kill(target.pid, signal);
}

/**
 * Stops a process: asks with `signal`, waits `timeoutMs`, then kills it together with its process group.
 *
 * The group matters when the process was started by us as a group leader: its own children (engines) go with it.
 * @returns whether it went when asked (`stopped`), was killed, or was gone already.
 */
export async function stopProcess(
  target: ProcessIdentity,
  { signal, timeoutMs, group }: { signal: NodeJS.Signals; timeoutMs: number; group: boolean },
): Promise<'gone' | 'stopped' | 'killed'> {
  if (!signalProcess(target, signal)) return 'gone';
  // A process that is stopped by SIGSTOP hears nothing until it continues.
  signalProcess(target, 'SIGCONT');
  if (await goneWithin(target, timeoutMs)) {
    if (group) kill(-target.pid, 'SIGKILL');
    return 'stopped';
  }
  if (group) kill(-target.pid, 'SIGKILL');
  signalProcess(target, 'SIGKILL');
  if (!(await goneWithin(target, KILL_WAIT_MS))) {
    throw new Error(
      `Process ${target.pid} is still there ${KILL_WAIT_MS} ms after SIGKILL: it hangs in the kernel, see "ps -o stat,wchan -p ${target.pid}"`,
    );
  }
  return 'killed';
}

/** Waits until a process is gone; false when the time is over. */
export async function goneWithin(target: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const until = performance.now() + timeoutMs;
  while (isAlive(target)) {
    if (performance.now() > until) return false;
    await sleep(LOOK_EVERY_MS);
  }
  return true;
}

/** Processes called `name` that work in `folder`: how an unrecorded orphan of a data directory is found. Linux only. */
export function processesIn(folder: string, name: string): ProcessIdentity[] {
  if (process.platform !== 'linux') return [];
  const found: ProcessIdentity[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      if (readlinkSync(`/proc/${pid}/cwd`) !== folder) continue;
      if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== name) continue;
    } catch {
      // Gone between listing and reading, or somebody else's: not ours to look at, so not an orphan of ours.
      continue;
    }
    const identity = identityOf(pid);
    if (identity) found.push(identity);
  }
  return found;
}

function kill(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

function startOnLinux(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    // No such process: that is the answer, not a failure.
    return undefined;
  }
  // The second field is the command in parentheses and may hold spaces and parentheses itself: count from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  const startTicks = fields[19];
  if (state === 'Z' || state === 'X' || startTicks === undefined) return undefined;
  bootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return `${bootId}:${startTicks}`;
}

function startByPs(pid: number): string | undefined {
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    if (line === '' || line.startsWith('Z')) return undefined;
    return line.replace(/^\S+\s+/, '');
  } catch {
    // ps exits 1 when there is no such process.
    return undefined;
  }
}
