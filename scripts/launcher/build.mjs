import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { at, ROOT } from './paths.mjs';
import { giveUp, say, secondsSince } from './progress.mjs';

const STAMP = at('node_modules', '.freehold-build');
/** The machines we promise for have two cores, and each emitter loads the compiler anew. */
const EMITTERS = 2;

/**
 * Turns every source into JavaScript when a source, a package or a flag changed since the last build; otherwise takes ~20 ms.
 *
 * Each file by itself and without a look at its types, which takes seconds instead of half a minute: who starts the house or
 * tests it did not come for its types. `npm run check` is asked for those, and `npm run build` makes declarations as well.
 */
export async function ensureBuilt() {
  const wanted = sourcesHash();
  const built = [...allProjects()].map(([project]) => at(project, 'dist'));
  if (readStamp() === wanted && built.every((folder) => existsSync(folder))) return;
  const from = performance.now();
  say('building');
  const codes = await Promise.all(Array.from({ length: EMITTERS }, (_, part) => emit(part)));
  if (codes.some((code) => code !== 0)) giveUp('The build failed; the errors stand above.');
  writeFileSync(STAMP, JSON.stringify({ sources: wanted }));
  say(`built in ${secondsSince(from)}`);
}

/** Sources as [from, to], the files of all projects: what {@link emit} shares out among its parts. */
export function sourcesToBuild() {
  return [...allProjects()].flatMap(([project, { rootDir, outDir }]) =>
    [...walk(at(project, rootDir))]
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
      .map((file) => [file, at(project, outDir, relative(at(project, rootDir), file).replace(/\.ts$/, '.js'))]),
  );
}

/**
 * Compiler errors are for the reader: they go to stderr as they come.
 *
 * @param {number} part
 */
function emit(part) {
  const args = [at('scripts/launcher/emit.mjs'), String(part), String(EMITTERS)];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', process.stderr, process.stderr] });
    child.once('error', reject);
    child.once('exit', (code) => resolve(code));
  });
}

/**
 * @typedef {object} Project What of a tsconfig.json matters here.
 * @property {{ readonly rootDir?: string; readonly outDir?: string }} [compilerOptions]
 * @property {readonly { readonly path: string }[]} [references]
 */

/** The folders that the solution file refers to. */
function projects() {
  return (readJson(at('tsconfig.json')).references ?? []).map(({ path }) => path);
}

/** These and everything that they refer to, with where each keeps its sources and what is made of them. */
function allProjects() {
  /** @type {Map<string, { rootDir: string; outDir: string }>} */
  const found = new Map();
  const visit = (/** @type {string} */ project) => {
    if (found.has(project)) return;
    const { compilerOptions = {}, references = [] } = readJson(at(project, 'tsconfig.json'));
    const { rootDir = 'src', outDir = 'dist' } = compilerOptions;
    found.set(project, { rootDir, outDir });
    for (const { path } of references) visit(relative(ROOT, at(project, path)));
  };
  for (const project of projects()) visit(relative(ROOT, at(project)));
  return found;
}

/**
 * @param {string} file
 * @returns {Project}
 */
function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'));
}

function readStamp() {
  try {
    return JSON.parse(readFileSync(STAMP, 'utf8')).sources;
  } catch {
    // Never built here: there is nothing to compare with.
    return undefined;
  }
}

/** Names, sizes and times of everything the compiler reads of ours. */
function sourcesHash() {
  const hash = createHash('sha256');
  const add = (/** @type {string} */ file) => {
    const { size, mtimeMs } = statSync(file);
    hash.update(`${file}\0${size}\0${mtimeMs}\n`);
  };
  for (const file of ['tsconfig.json', 'tsconfig.base.json', 'package-lock.json']) add(at(file));
  for (const [project, { rootDir }] of allProjects()) {
    for (const file of ['package.json', 'tsconfig.json']) add(at(project, file));
    for (const file of walk(at(project, rootDir))) add(file);
  }
  return hash.digest('hex');
}

/**
 * @param {string} folder
 * @returns {Generator<string>}
 */
function* walk(folder) {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* walk(path);
    else if (!entry.name.endsWith('.test.ts')) yield path;
  }
}
