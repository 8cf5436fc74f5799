import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';

const PAGE_MIB = 4 / 1024;
/** Of the memory limit, what V8's heap may take; weights and caches live outside it. */
const HEAP_SHARE = 0.5;
export const RSS_WATCH_MS = 500;

export function heapFlags(memoryMib: number): string[] {
  return [`--max-old-space-size=${Math.max(64, Math.floor(memoryMib * HEAP_SHARE))}`, '--no-warnings'];
}

/** No secret of the node reaches a process that parses strangers' files: only what a program needs to start. */
export function childEnvironment(): NodeJS.ProcessEnv {
  return { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: tmpdir(), NODE_ENV: 'production' };
}

/** Resident memory of a process, watched from outside, as no process can be trusted to count itself. */
export function residentMib(pid: number): number | undefined {
  try {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
    return Number.isFinite(pages) ? pages * PAGE_MIB : undefined;
  } catch {
    // Not Linux, or just gone: the heap limit still holds.
    return undefined;
  }
}
