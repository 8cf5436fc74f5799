import { existsSync, mkdirSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const MIB = 1_048_576;
/** A new market takes 120 MiB (a cluster with its log, models, the chain) and grows at once. */
const FIRST_START_MIB = 256;
/** Postgres cannot even write its log of changes with less. */
const LATER_START_MIB = 64;

/** A data folder on which nothing could live: said before anything is started. */
export class DataFolderError extends Error {
  constructor(path: string, why: string, advice = 'Choose another folder with --data DIR.') {
    super(`The data folder ${path} ${why}. ${advice}`);
    this.name = 'DataFolderError';
  }
}

/**
 * Makes the folder if it is not there, and proves that files can be written in it and that there is room for what comes.
 *
 * Folder by folder: mkdir's own recursion goes round for ever below /proc, where a folder that exists takes no others.
 */
export function openDataFolder(path: string): void {
  const folder = resolve(path);
  let isNew = false;
  for (const missing of missingFolders(folder)) {
    isNew = true;
    attempt(folder, 'cannot be made', () => mkdirSync(missing));
  }
  if (!statSync(folder).isDirectory()) throw new DataFolderError(folder, 'is no folder');
  const probe = join(folder, `.probe-${process.pid}`);
  attempt(folder, 'cannot be written to', () => {
    writeFileSync(probe, 'x', { mode: 0o600 });
    rmSync(probe);
  });
  const freeMib = freeMibOf(folder);
  const neededMib = isNew ? FIRST_START_MIB : LATER_START_MIB;
  if (freeMib < neededMib)
    throw new DataFolderError(
      folder,
      `is on a disk with ${freeMib} MiB free; ${isNew ? 'a first start' : 'a start'} needs ${neededMib} MiB`,
      'Free some space, or choose another folder with --data DIR.',
    );
}

/** What the disk of a folder has left for us, in whole MiB. */
export function freeMibOf(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return Math.floor((bavail * bsize) / MIB);
}

function missingFolders(folder: string): string[] {
  const missing: string[] = [];
  for (let at = folder; !existsSync(at); at = dirname(at)) missing.unshift(at);
  return missing;
}

function attempt(folder: string, what: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT')
      throw new DataFolderError(
        folder,
        `${what}: the disk is full (${code})`,
        'Free some space there, or choose another folder with --data DIR.',
      );
    throw new DataFolderError(folder, `${what}: ${message}`);
  }
}
