import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { at, ROOT } from './paths.mjs';
import { giveUp, say, secondsSince } from './progress.mjs';

/** @typedef {'production' | 'full'} Kind */

const STAMP = at('node_modules', '.freehold-install');
const REPORT_EVERY_MS = 5_000;
/** Lines of npm's output shown when it fails. */
const TAIL_LINES = 30;

/**
 * Makes node_modules agree with the lock file. Does nothing (0.01 s) when it already does.
 *
 * `npm install`, not `npm ci`: ci refuses the lock file where a registry lacks packages of other platforms. `--no-save`
 * keeps the lock file as committed. Install scripts stay off: nothing here needs one.
 *
 * @param {Kind} kind 'production' runs the house; 'full' also tests it. A full install serves both and is never cut down.
 */
export async function ensureInstalled(kind) {
  const wanted = lockHash();
  const present = readStamp();
  const keepFull = present === undefined ? existsSync(at('node_modules/jest')) : present.kind === 'full';
  const target = keepFull ? 'full' : kind;
  if (present?.lock === wanted && (present.kind === 'full' || present.kind === kind)) return;

  const from = performance.now();
  const expected = expectedFolders(target);
  say(`installing ${target === 'full' ? 'all' : 'runtime'} dependencies (${expected} packages)`);
  const ticker = setInterval(
    () => say(`  ${presentFolders()} of ${expected} packages, ${secondsSince(from)}`),
    REPORT_EVERY_MS,
  );
  const { code, output } = await npmInstall(target).finally(() => clearInterval(ticker));
  if (code !== 0) {
    giveUp(
      `npm install failed (exit code ${code}) after ${secondsSince(from)}. Its last lines:\n\n${output.trimEnd().split('\n').slice(-TAIL_LINES).join('\n')}\n\n` +
        'Check the network and the registry ("npm ping"), then start again: what was downloaded is kept.',
    );
  }
  if (target === 'production') removeSourceMaps(at('node_modules'));
  writeFileSync(STAMP, `${JSON.stringify({ lock: wanted, kind: target })}\n`);
  say(`installed in ${secondsSince(from)}`);
}

/**
 * @param {Kind} kind
 * @returns {Promise<{ code: number | null; output: string }>}
 */
function npmInstall(kind) {
  const flags = ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];
  // `--include` undoes NODE_ENV=production and `omit` settings of the machine.
  flags.push(kind === 'full' ? '--include=dev' : '--omit=dev', '--include=optional');
  const [command, ...first] = npmCommand();
  return new Promise((resolve) => {
    let output = '';
    const child = spawn(command, [...first, ...flags], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    const keep = (/** @type {Buffer} */ chunk) => (output = (output + chunk).slice(-64 * 1024));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.once('error', (error) => resolve({ code: 127, output: `${command}: ${error.message}` }));
    child.once('close', (code) => resolve({ code, output }));
  });
}

/** The npm that runs us, else the one beside this Node, else the one on the PATH. */
function npmCommand() {
  const ours = process.env['npm_execpath'];
  if (ours?.endsWith('npm-cli.js') && existsSync(ours)) return [process.execPath, ours];
  const beside = join(dirname(process.execPath), 'npm');
  return [existsSync(beside) ? beside : 'npm'];
}

/** The stamp covers what decides the tree: the lock file and the root's overrides and workspaces. */
function lockHash() {
  const hash = createHash('sha256');
  for (const file of ['package-lock.json', 'package.json']) hash.update(readFileSync(at(file)));
  return hash.digest('hex');
}

/** @returns {{ lock: string; kind: Kind } | undefined} */
function readStamp() {
  try {
    return JSON.parse(readFileSync(STAMP, 'utf8'));
  } catch {
    // Never installed by the launcher, or killed while writing: installing again is cheap and right.
    return undefined;
  }
}

/**
 * Top-level folders that the lock file asks for on this platform: a measure of progress, not of correctness.
 *
 * @param {Kind} kind
 */
function expectedFolders(kind) {
  /** @type {{ packages: Readonly<Record<string, { dev?: boolean; os?: string[]; cpu?: string[] }>> }} */
  const { packages } = JSON.parse(readFileSync(at('package-lock.json'), 'utf8'));
  const fits = (/** @type {readonly string[] | undefined} */ list, /** @type {string} */ value) =>
    list === undefined || list.includes(value) || list.some((x) => x.startsWith('!') && x !== `!${value}`);
  return Object.entries(packages).filter(
    ([path, entry]) =>
      /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) &&
      (kind === 'full' || entry.dev !== true) &&
      fits(entry.os, process.platform) &&
      fits(entry.cpu, process.arch),
  ).length;
}

/** Folders that are filled: npm makes them all at once, empty, and a package.json appears when the package is unpacked. */
function presentFolders() {
  const top = at('node_modules');
  const names = (/** @type {string} */ folder) =>
    existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith('.')) : [];
  const folders = names(top).flatMap((name) =>
    name.startsWith('@') ? names(join(top, name)).map((inner) => join(name, inner)) : [name],
  );
  return folders.filter((folder) => existsSync(join(top, folder, 'package.json'))).length;
}

/**
 * Maps of other people's sources: a sixth of the disk space, of use to nobody who only runs the house.
 *
 * @param {string} folder
 */
function removeSourceMaps(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) removeSourceMaps(path);
    else if (entry.isFile() && /\.[cm]?[jt]s\.map$/.test(entry.name)) rmSync(path);
  }
}
