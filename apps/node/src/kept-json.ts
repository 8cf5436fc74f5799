import { rename } from 'node:fs/promises';
import type { z } from 'zod';
import { readIfThere } from './durable-files.ts';

export type DamageLog = (event: string, detail: Record<string, unknown>) => void;

/** A file that guards money cannot be read: going on without it could cost its owner some. */
export class DamagedFileError extends Error {
  override readonly name = 'DamagedFileError';
}

/** A file could not be read, or put where it belongs, which says nothing about what is in it: it stays where it is, and counts for no more and no less. */
export class UnreadableFileError extends Error {
  override readonly name = 'UnreadableFileError';

  constructor(path: string, cause: unknown) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const advice = ADVICE[code ?? ''] ?? 'Look at the disk it is on (dmesg, fsck), and start again.';
    const done = TAKES_NOTHING.has(code ?? '') ? 'written' : 'read';
    super(`${path} cannot be ${done} (${message}). Nothing says that it is damaged: leave it where it is. ${advice}`, {
      cause,
    });
  }
}

const OWNERSHIP = 'Let the user that the node runs as read it and write to it, and search the folders above it.';
const OPEN_FILES = 'Raise the limit of open files (ulimit -n), or end what holds so many.';
const ROOM = 'Make room on the disk it is on (df shows how much there is), and start again.';
/** Of a disk that can be read: whoever reads meets these where something is moved or cut off on the way. */
const TAKES_NOTHING = new Set(['ENOSPC', 'EDQUOT', 'EROFS']);
const ADVICE: Readonly<Record<string, string>> = {
  EACCES: OWNERSHIP,
  EPERM: OWNERSHIP,
  EMFILE: OPEN_FILES,
  ENFILE: OPEN_FILES,
  ENOSPC: ROOM,
  EDQUOT: ROOM,
  EISDIR: 'A folder has its place: look what is in it, and move that away.',
  EROFS: 'The disk it is on takes no writes: see why (dmesg), mount it so that it does, and start again.',
};

/**
 * What the node can measure, or read elsewhere, again: a damaged file is put aside, its owner is told, and the node begins without.
 * Null when nothing is there.
 */
export async function readForgettable<T>(path: string, schema: z.ZodType<T>, log: DamageLog): Promise<T | null> {
  const read = await readJson(path, schema);
  if (!('fault' in read)) return read.value;
  const aside = `${path}.damaged`;
  const isAside = await rename(path, aside).then(
    () => true,
    // It stays where it is until it is written over.
    () => false,
  );
  log('file-damaged', {
    file: path,
    why: read.fault,
    ...(isAside ? { aside } : {}),
    then: 'what it said is forgotten',
  });
  return null;
}

/**
 * What guards the node's money: a damaged file stops the start. Null when there is no such file.
 *
 * @param remedy What the owner can do, in sentences.
 */
export async function readGuarded<T>(path: string, schema: z.ZodType<T>, remedy: string): Promise<T | null> {
  const read = await readJson(path, schema);
  if ('fault' in read) throw new DamagedFileError(`${path} is damaged (${read.fault}). ${remedy}`);
  return read.value;
}

/**
 * What a start reads of the disk, and moves or cuts off there: when that fails, it says nothing of what is there, and the start ends with what to do. Null when a folder
 * has the place of a file.
 *
 * @param path What is said to be unreadable where the error does not say it itself.
 */
export async function readable<T>(path: string, read: () => Promise<T>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    const { code, path: at } = error as NodeJS.ErrnoException;
    if (code === 'EISDIR') return null;
    if (code === undefined) throw error;
    throw new UnreadableFileError(at ?? path, error);
  }
}

async function readJson<T>(
  path: string,
  schema: z.ZodType<T>,
): Promise<{ readonly value: T | null } | { readonly fault: string }> {
  let text: string | null;
  try {
    text = await readIfThere(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EISDIR') return { fault: 'a folder has its place' };
    throw new UnreadableFileError(path, error);
  }
  return text === null ? { value: null } : parsedAs(text, schema);
}

function parsedAs<T>(text: string, schema: z.ZodType<T>): { readonly value: T } | { readonly fault: string } {
  try {
    const parsed = schema.safeParse(JSON.parse(text));
    if (parsed.success) return { value: parsed.data };
    const [issue] = parsed.error.issues;
    return { fault: [issue?.path.join('.'), issue?.message].filter(Boolean).join(': ') };
  } catch (error) {
    return { fault: error instanceof Error ? error.message : String(error) };
  }
}
