import { open, readFile, rename, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Owner only: what a node keeps is keys, payloads and money. */
export const FILE_MODE = 0o600;
export const FOLDER_MODE = 0o700;

/** Replaces a file as a whole: after a crash there is the old text or the new one, and after this returns only the new one. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', FILE_MODE);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncFolder(dirname(path));
}

/** Makes names in a folder survive a loss of power. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Null when there is no such file. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

export interface FileFacts {
  readonly size: number;
  readonly changedMs: number;
  readonly isFolder: boolean;
}

/** Null when there is no such file. */
export async function statIfThere(path: string): Promise<FileFacts | null> {
  try {
    const found = await stat(path);
    return { size: found.size, changedMs: found.mtimeMs, isFolder: found.isDirectory() };
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** Of a path that leads through a file that is no folder, too. */
const MISSING = new Set<unknown>(['ENOENT', 'ENOTDIR']);

/** Whether a file error says that there is no such file. By its code alone: errors of another realm are no `Error` here. */
export function isMissing(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && MISSING.has(error.code);
}
