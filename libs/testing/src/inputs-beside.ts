import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SHARED = join(dirname(fileURLToPath(import.meta.url)), '../../../../shared');

/** A file of the inputs that lie beside the repository, or null with a line that says so: a test never fails for their absence. */
export function sharedFile(path: string): string | null {
  const file = join(SHARED, path);
  if (existsSync(file)) return file;
  console.info(`skipped: no ../shared/${path}`);
  return null;
}

export function sharedJson<T>(path: string): T | null {
  const file = sharedFile(path);
  return file === null ? null : (JSON.parse(readFileSync(file, 'utf8')) as T);
}
