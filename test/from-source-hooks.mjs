import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Beside the other tools' caches; what lies there is named by the hash of what it was made of. */
const CACHE = fileURLToPath(new URL('../node_modules/.cache/from-source', import.meta.url));
/** @type {import('@swc/core').Options} */
const OPTIONS = {
  sourceMaps: 'inline',
  swcrc: false,
  jsc: {
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    target: 'es2023',
  },
  module: { type: 'es6' },
};
/** The compiler's version decides as well; a lock file that changed asks for everything anew. */
const SETTINGS = createHash('sha256')
  .update(JSON.stringify(OPTIONS))
  .update(await readFile(new URL('../package-lock.json', import.meta.url)))
  .digest('hex');

/**
 * Node's `load` hook: TypeScript becomes JavaScript in memory; everything else goes its usual way.
 *
 * @type {import('node:module').LoadHook}
 */
export async function load(url, context, nextLoad) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return nextLoad(url, context);
  const filename = fileURLToPath(url);
  const source = await readFile(filename, 'utf8');
  return { format: 'module', source: await compiled(filename, source), shortCircuit: true };
}

/**
 * The compiler alone takes longer to load than most scripts: it is asked only for what no process compiled before.
 *
 * @param {string} filename
 * @param {string} source
 */
async function compiled(filename, source) {
  const key = createHash('sha256').update(`${SETTINGS}\0${filename}\0${source}`).digest('hex');
  const kept = join(CACHE, `${key}.js`);
  try {
    return await readFile(kept, 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
  const { transform } = await import('@swc/core');
  const { code } = await transform(source, { filename, ...OPTIONS });
  await keep(kept, code);
  return code;
}

/**
 * @param {string} path
 * @param {string} code
 */
async function keep(path, code) {
  const draft = join(CACHE, `.${randomUUID()}`);
  try {
    await mkdir(CACHE, { recursive: true });
    await writeFile(draft, code);
    await rename(draft, path);
  } catch (error) {
    // A test that runs as somebody else may not write here: it compiles again the next time.
    if (!['EACCES', 'EPERM', 'EROFS'].includes(codeOf(error) ?? '')) throw error;
  }
}

/** @param {unknown} error */
function codeOf(error) {
  return /** @type {NodeJS.ErrnoException} */ (error).code;
}
