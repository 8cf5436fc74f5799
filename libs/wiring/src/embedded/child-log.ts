import { copyFileSync, existsSync, renameSync, rmSync, statSync, truncateSync, writeSync } from 'node:fs';

/** A log above this is put aside as `.1`, at a child's start and while it runs: a child has two of these on the disk at most. */
export const LOG_BYTES_MAX = 16 * 1024 * 1024;
/** The loudest child of ours writes a few MiB a minute. */
export const LOG_LOOK_MS = 60_000;

const FULL: readonly unknown[] = ['ENOSPC', 'EDQUOT'];

export function isDiskFull(error: unknown): boolean {
  return FULL.includes((error as NodeJS.ErrnoException).code);
}

/** A line for the log. A full disk costs the line, never the house. */
export function note(log: number, line: string): void {
  try {
    writeSync(log, `${line}\n`);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
}

/** Before a child is started: nobody writes. */
export function putLargeLogAside(file: string, bytesMax = LOG_BYTES_MAX): void {
  if (existsSync(file) && statSync(file).size > bytesMax) renameSync(file, `${file}.1`);
}

/**
 * While a child writes to it: copied, then emptied, because the child keeps its handle (which appends). On a disk without room
 * for the copy the log is emptied all the same: what it takes is what the house lacks.
 */
export function emptyLargeLog(file: string, bytesMax = LOG_BYTES_MAX): void {
  if (!existsSync(file) || statSync(file).size <= bytesMax) return;
  const aside = `${file}.1`;
  try {
    copyFileSync(file, aside);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    rmSync(aside, { force: true });
  }
  truncateSync(file, 0);
}

/**
 * For a process whose standard output or error is a file of a launcher: on a full disk a line is lost. Without this Node ends
 * the process at the first line that does not fit, in the middle of whatever it does.
 */
export function outliveFullLog(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error) => {
      if (!isDiskFull(error)) throw error;
    });
}
