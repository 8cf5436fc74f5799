/** `npm run check`: everything that can be said about the house without running it. All steps run; the failures are named at the end. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { ensureInstalled } from './launcher/install.mjs';
import { oneAtATime } from './launcher/gate.mjs';
import { checkMachine } from './launcher/machine.mjs';
import { at, ROOT, TOOLS } from './launcher/paths.mjs';
import { secondsSince } from './launcher/progress.mjs';

const HELP = `Checks types (of benches and scripts, too), lint, format, arrows, secrets, generated files and the lock file.

  npm run check                  all steps
  npm run check -- lint format   some of them`;

/** Steps that run beside each other: the machines we promise for have two cores. */
const SIDE_BY_SIDE = 2;

const node =
  (/** @type {string} */ script, /** @type {string[]} */ ...args) =>
  () =>
    run([script, ...args]);

/**
 * The build goes first and alone: the steps after it read its declarations.
 *
 * @type {Readonly<Record<string, () => Promise<{ code: number; output: string }>>>}
 */
const STEPS = {
  build: node(TOOLS.tsc, '-b', '--pretty', 'false'),
  types: node(TOOLS.tsc, '-p', 'tsconfig.tests.json', '--pretty', 'false'),
  // What runs as it is written (benches, fault tests, this) and calls the house: .mjs.
  scripts: node(TOOLS.tsc, '-p', 'tsconfig.scripts.json', '--pretty', 'false'),
  lint: node(TOOLS.oxlint, '--type-aware', '--disable-nested-config', '--tsconfig', 'tsconfig.tests.json'),
  format: node(TOOLS.prettier, '--check', '--cache', '--log-level', 'warn', '.'),
  arrows: node(TOOLS.depcruise, '--config', '.dependency-cruiser.mjs', 'apps', 'libs'),
  planted: node(at('test/arrows/planted.mjs')),
  secrets: node(TOOLS.secretlint, '**/*', '.*', '.ci/*'),
  abi: whenPresent('contracts/scripts/generate-abi.mjs', '--check'),
  schema: whenPresent('scripts/schema.mjs', '--check'),
  lockfile: () => Promise.resolve(checkLockFile()),
};

/** These find nothing of ours where it was only built to run. */
const READ_DECLARATIONS = ['scripts'];

/**
 * @param {string} script
 * @param {string[]} args
 */
function whenPresent(script, ...args) {
  return () => (existsSync(at(script)) ? run([at(script), ...args]) : Promise.resolve({ code: 0, output: '' }));
}

/**
 * @param {readonly string[]} args
 * @returns {Promise<{ code: number; output: string }>}
 */
function run(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1' },
    });
    let output = '';
    const keep = (/** @type {Buffer} */ chunk) => (output += chunk);
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

/** Every downloaded package is held to its bytes, and the file names no registry: any mirror will do. */
function checkLockFile() {
  /** @type {{ packages: Readonly<Record<string, { link?: true; inBundle?: true; integrity?: string; resolved?: string }>> }} */
  const { packages } = JSON.parse(readFileSync(at('package-lock.json'), 'utf8'));
  const wrong = [];
  for (const [path, entry] of Object.entries(packages)) {
    if (entry.link || !path.includes('node_modules/')) continue;
    if (entry.inBundle !== true && !entry.integrity) wrong.push(`${path} has no integrity`);
    if (entry.resolved) wrong.push(`${path} names a registry: run "npm install" with the repository's .npmrc`);
  }
  return { code: wrong.length === 0 ? 0 : 1, output: wrong.join('\n') };
}

/**
 * Runs one step and prints its line; its output only when it failed.
 *
 * @param {string} name
 */
async function report(name) {
  const from = performance.now();
  const { code, output } = await STEPS[name]();
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${name.padEnd(9)} ${secondsSince(from)}`);
  if (code !== 0) console.log(`${output.trimEnd()}\n`);
  return code === 0 ? [] : [name];
}

/**
 * In the order of {@link STEPS}; a step that reads declarations brings the build along.
 *
 * @param {readonly string[]} wanted
 */
function chosen(wanted) {
  const names = Object.keys(STEPS);
  if (wanted.length === 0) return names;
  const all = wanted.some((name) => READ_DECLARATIONS.includes(name)) ? ['build', ...wanted] : wanted;
  return names.filter((name) => all.includes(name));
}

/** @param {readonly string[]} names */
async function runAll(names) {
  const failed = [];
  const rest = names.filter((name) => name !== 'build');
  if (names.includes('build')) failed.push(...(await report('build')));
  const worker = async () => {
    for (let name = rest.shift(); name !== undefined; name = rest.shift()) failed.push(...(await report(name)));
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
  return failed;
}

const args = process.argv.slice(2);
const unknown = args.filter((arg) => !(arg in STEPS));
if (args.includes('--help') || args.includes('-h')) {
  console.log(HELP);
} else if (unknown.length > 0) {
  console.error(`No step named ${unknown.join(', ')}. Steps: ${Object.keys(STEPS).join(', ')}`);
  process.exitCode = 1;
} else {
  checkMachine();
  await oneAtATime(() => ensureInstalled('full'));
  const from = performance.now();
  const failed = await runAll(chosen(args));
  console.log(
    failed.length === 0
      ? `check passed in ${secondsSince(from)}`
      : `check FAILED in ${secondsSince(from)}: ${failed.join(', ')}`,
  );
  process.exitCode = failed.length === 0 ? 0 : 1;
}
