import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../options.ts';

/** A file of receipts that somebody hands us: at most so much is read. */
const FILE_BYTES_MAX = 256 * 1_048_576;

export interface FoundReceipt {
  /** The file, and the place in it. */
  readonly where: string;
  readonly kept: unknown;
}

/** Receipts of a file (one, a list, or one a line) or of a folder of such files. Torn lines are receipts that are wrong, not skipped. */
export async function receiptsIn(path: string): Promise<readonly FoundReceipt[]> {
  const found = await stat(path).catch(() => null);
  if (found === null) throw new OptionError(`${path}: there is no such file or folder.`);
  if (!found.isDirectory()) return await receiptsOfFile(path, found.size);
  const names = (await readdir(path)).filter((name) => /\.jsonl?$/.test(name)).sort();
  const lists = await Promise.all(
    names.map(async (name) => {
      const file = join(path, name);
      return await receiptsOfFile(file, (await stat(file)).size);
    }),
  );
  return lists.flat();
}

async function receiptsOfFile(path: string, bytes: number): Promise<FoundReceipt[]> {
  if (bytes > FILE_BYTES_MAX) throw new OptionError(`${path}: ${bytes} bytes; at most ${FILE_BYTES_MAX} are read.`);
  const text = await readFile(path, 'utf8');
  const whole = jsonOf(text);
  if (whole !== undefined) {
    const list: readonly unknown[] = Array.isArray(whole) ? whole : [whole];
    return list.map((kept, i) => ({ where: list.length === 1 ? path : `${path}[${i}]`, kept }));
  }
  return text
    .split('\n')
    .map((line, i) => ({ line, where: `${path}:${i + 1}` }))
    .filter(({ line }) => line.trim() !== '')
    .map(({ line, where }) => ({ where, kept: jsonOf(line) }));
}

/** What a file of somebody else's says; undefined when it is no JSON text. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // Perhaps a list of lines, and if not, whoever wants something of it says what it is not.
    return undefined;
  }
}
