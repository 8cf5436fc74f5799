import { rename } from 'node:fs/promises';
import type { z } from 'zod';
import { readIfThere } from './durable-files.ts';

export type DamageLog = (event: string, detail: Record<string, unknown>) => void;

/** A file that guards money cannot be read: going on without it could cost its owner some. */
export class DamagedFileError extends Error {
  override readonly name = 'DamagedFileError';
}

/**
 * What the node can measure, or read elsewhere, again: a damaged file is put aside, its owner is told, and the node begins without.
 * Null when nothing is there that can be read.
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

async function readJson<T>(
  path: string,
  schema: z.ZodType<T>,
): Promise<{ readonly value: T | null } | { readonly fault: string }> {
  try {
    const text = await readIfThere(path);
    if (text === null) return { value: null };
    const parsed = schema.safeParse(JSON.parse(text));
    if (parsed.success) return { value: parsed.data };
    const [issue] = parsed.error.issues;
    return { fault: [issue?.path.join('.'), issue?.message].filter(Boolean).join(': ') };
  } catch (error) {
    return { fault: error instanceof Error ? error.message : String(error) };
  }
}
