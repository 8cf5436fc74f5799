import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isPortFree } from './free-port.ts';

/** The port asked for belongs to somebody else. */
export class PortTakenError extends Error {
  constructor(port: number, holder: string | null) {
    super(
      `Port ${port} is taken${holder === null ? '' : ` by ${holder}`}. Stop that one, choose another port with --port N, or let --port 0 find a free one.`,
    );
    this.name = 'PortTakenError';
  }
}

/** @throws {PortTakenError} naming who listens on the port. Port 0 is always free. */
export async function refuseTakenPort(port: number): Promise<void> {
  if (port !== 0 && !(await isPortFree(port))) throw new PortTakenError(port, holderOf(port));
}

const LISTEN = '0A';

/** `process PID (its command)` of who listens on a TCP port, as far as /proc lets us see; null otherwise. */
export function holderOf(port: number): string | null {
  const inodes = new Set(['/proc/net/tcp', '/proc/net/tcp6'].flatMap((table) => listeners(table, port)));
  if (inodes.size === 0) return null;
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    if (socketsOf(pid).some((inode) => inodes.has(inode))) return `process ${pid} (${commandOf(pid)})`;
  }
  return null;
}

function listeners(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return read(table)
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(suffix) === true && fields[3] === LISTEN)
    .flatMap((fields) => fields[9] ?? []);
}

function socketsOf(pid: string): string[] {
  return list(`/proc/${pid}/fd`).flatMap((fd) => /^socket:\[(\d+)\]$/.exec(link(`/proc/${pid}/fd/${fd}`))?.[1] ?? []);
}

/** Another user's process, or one that just ended, cannot be looked into. */
function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** A descriptor may be closed between the listing and the look. */
function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function commandOf(pid: string): string {
  return read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim().slice(0, 80);
}

/** Where there is no /proc nobody can be named, and that is all. */
function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
