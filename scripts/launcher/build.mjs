import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { at, ROOT, TOOLS } from './paths.mjs';
import { giveUp, say, secondsSince } from './progress.mjs';

const STAMP = at('node_modules', '.freehold-build');

/**
 * Builds with `tsc -b` when a source, a package or a flag changed since the last build; otherwise takes ~20 ms.
 *
 * @param kind 'production' builds the apps and what they stand on; 'full' also libs/testing, whose types come with the
 *   test runner and are not there in a production install.
 */
export async function ensureBuilt(kind) {
  const wanted = sourcesHash();
  const folders = projects().filter((project) => kind === 'full' || project.startsWith('./apps/'));
  if (readStamp() === wanted && folders.every((project) => existsSync(at(project, 'dist')))) return;
  const from = performance.now();
  say('building (tsc -b)');
  const code = await run(TOOLS.tsc, ['-b', ...folders]);
  if (code !== 0) giveUp(`The build failed (tsc -b, exit code ${code}); the errors stand above.`);
  writeFileSync(STAMP, JSON.stringify({ sources: wanted }));
  say(`built in ${secondsSince(from)}`);
}

/** Compiler errors are for the reader: they go to stderr as they come. */
function run(script, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [script, ...args], {
      cwd: ROOT,
      stdio: ['ignore', process.stderr, process.stderr],
    });
    child.once('error', reject);
    child.once('exit', (code) => resolve(code));
  });
}

/** The folders that the solution file refers to. */
function projects() {
  return readJson(at('tsconfig.json')).references.map(({ path }) => path);
}

/** These and everything that they refer to, with where each keeps its sources. */
function allProjects() {
  const found = new Map();
  const visit = (project) => {
    if (found.has(project)) return;
    const { compilerOptions = {}, references = [] } = readJson(at(project, 'tsconfig.json'));
    found.set(project, compilerOptions.rootDir ?? 'src');
    for (const { path } of references) visit(relative(ROOT, at(project, path)));
  };
  for (const project of projects()) visit(relative(ROOT, at(project)));
  return found;
}

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
  const add = (file) => {
    const { size, mtimeMs } = statSync(file);
    hash.update(`${file}\0${size}\0${mtimeMs}\n`);
  };
  for (const file of ['tsconfig.json', 'tsconfig.base.json', 'package-lock.json']) add(at(file));
  for (const [project, sources] of allProjects()) {
    for (const file of ['package.json', 'tsconfig.json']) add(at(project, file));
    for (const file of walk(at(project, sources))) add(file);
  }
  return hash.digest('hex');
}

function* walk(folder) {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* walk(path);
    else if (!entry.name.endsWith('.test.ts')) yield path;
  }
}
