import { join } from 'node:path';

/** Names are made by us: a folder of a few letters and a plain file name. Anything else is a bug, and must not reach a path. */
const NAME_PATTERN = /^[a-z]{1,16}\/(?!\.)[A-Za-z0-9._-]{1,160}$/;

export function objectPath(root: string, name: string): string {
  if (!NAME_PATTERN.test(name))
    throw new RangeError(`object name ${JSON.stringify(name.slice(0, 80))}: expected folder/name`);
  return join(root, name);
}
