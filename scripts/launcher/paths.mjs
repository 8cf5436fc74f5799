import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root, wherever the launcher was called from. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/**
 * A path below the root.
 *
 * @param {string[]} parts
 */
export function at(...parts) {
  return join(ROOT, ...parts);
}

/** JavaScript entry of a tool under node_modules: called with this very Node, so no shell and no PATH is involved. */
export const TOOLS = {
  tsc: at('node_modules/typescript/bin/tsc'),
  jest: at('node_modules/jest/bin/jest.js'),
  oxlint: at('node_modules/oxlint/bin/oxlint'),
  prettier: at('node_modules/prettier/bin/prettier.cjs'),
  depcruise: at('node_modules/dependency-cruiser/bin/dependency-cruise.mjs'),
  secretlint: at('node_modules/secretlint/bin/secretlint.js'),
};
