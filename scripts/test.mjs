/** `npm test`: everything that can be proved here, in phases, each with its time. The last line counts them all. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { at, ROOT, TOOLS } from './launcher/paths.mjs';
import { prepare } from './launcher/prepare.mjs';

const HELP = `Runs all tests. Installs and builds what is missing first.

  npm test                       all phases
  npm test -- unit               one phase: unit, forge, integration, e2e or faults
  npm test -- unit libs/domain   one phase, only files that match
  npm test -- libs/p2p           every jest phase, only files that match`;

/**
 * @typedef {{ readonly passed: number; readonly failed: number; readonly skipped: number }} Counts
 *
 * @typedef {object} Context Of a phase.
 * @property {string} folder For its reports.
 * @property {readonly string[]} patterns Of the files that are wanted.
 * @property {NodeJS.ProcessEnv} env
 * @property {number} limitMs
 *
 * @typedef {{ readonly budgetSeconds: number; readonly run: (context: Context) => Promise<Counts | undefined> }} Phase
 * @typedef {{ readonly name: string; readonly budgetSeconds: number; readonly seconds: number; readonly result: Counts | undefined }} Line
 */

/**
 * The phases with their budgets in seconds on two cores (the whole stays within 12 minutes). A phase that takes
 * {@link OVERRUN} times its budget is stopped and counts as failed: a hanging test must not hang the house.
 *
 * @type {Readonly<Record<string, Phase>>}
 */
const PHASES = {
  unit: { budgetSeconds: 90, run: (context) => jest('unit', ['--maxWorkers=2'], context) },
  forge: { budgetSeconds: 90, run: (context) => countedByScript('contracts/scripts/test.mjs', [], context) },
  integration: { budgetSeconds: 120, run: integration },
  // Two houses side by side: each waits for a third of its time, for leases to run out and for blocks.
  e2e: { budgetSeconds: 180, run: (context) => jest('e2e', ['--maxWorkers=2', '--testTimeout=180000'], context) },
  faults: {
    budgetSeconds: 120,
    run: (context) => countedByScript('test/chaos/run.mjs', ['--profile', 'smoke', '--json'], context),
  },
};
/** Of everything together, with installation and build: 12 minutes. */
const BUDGET_SECONDS = 720;
const JEST_PHASES = ['unit', 'integration', 'e2e'];
const OVERRUN = 5;
/** After SIGTERM to a phase's process group, before SIGKILL. */
const STOP_TIMEOUT_MS = 10_000;

/**
 * One server for all integration tests (each makes databases of its own), instead of one start per file.
 *
 * @param {Context} context
 */
async function integration(context) {
  const { testPostgres, TEST_DATABASE_URL } = await import(
    pathToFileURL(at('libs/wiring/dist/embedded/index.js')).href
  );
  const server = await testPostgres();
  try {
    // Half of the long ones' time is waiting (for locks to expire, processes to die): further workers work meanwhile.
    return await jest('integration', ['--maxWorkers=4'], {
      ...context,
      env: { ...context.env, [TEST_DATABASE_URL]: server.url },
    });
  } finally {
    await server.stop();
  }
}

/**
 * @param {string} project
 * @param {readonly string[]} flags
 * @param {Context} context
 */
async function jest(project, flags, context) {
  const report = join(context.folder, `${project}.json`);
  const args = ['--experimental-vm-modules', '--no-warnings', TOOLS.jest, '--selectProjects', project, ...flags];
  args.push('--passWithNoTests', '--json', `--outputFile=${report}`, ...context.patterns);
  const { code } = await run(args, { ...context, stdout: 'ignore' });
  if (!existsSync(report)) return code === 0 ? counts(0, 0) : counts(0, 1);
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, numRuntimeErrorTestSuites } = JSON.parse(
    readFileSync(report, 'utf8'),
  );
  // A file that does not even load has no tests to count, and yet something failed.
  const failed = numFailedTests + numRuntimeErrorTestSuites;
  return counts(numPassedTests, code !== 0 && failed === 0 ? 1 : failed, numPendingTests + numTodoTests);
}

/**
 * Runs a script that says at its end how many passed and failed: in words (`N passed, N failed`) or as JSON
 * (`{"passed":N,"failed":N}`). A script that says neither counts as one test: its exit code.
 *
 * @param {string} script
 * @param {readonly string[]} args
 * @param {Context} context
 */
async function countedByScript(script, args, context) {
  if (!existsSync(at(script))) return undefined;
  const { code, output } = await run([at(script), ...args], { ...context, stdout: 'show' });
  // forge says it in the line of its suites; ours say it last.
  const words = [...output.matchAll(/(\d+) (?:tests )?passed, (\d+) failed(?:, (\d+) skipped)?/g)].at(-1);
  const told = words
    ? counts(Number(words[1]), Number(words[2]), Number(words[3] ?? 0))
    : countsInJson(output.trimEnd().split('\n').at(-1) ?? '');
  if (told === undefined) return code === 0 ? counts(1, 0) : counts(0, 1);
  return code !== 0 && told.failed === 0 ? { ...told, failed: 1 } : told;
}

/** @param {string} line */
function countsInJson(line) {
  if (!line.startsWith('{')) return undefined;
  try {
    const { passed, failed, skipped } = JSON.parse(line);
    return Number.isInteger(passed) && Number.isInteger(failed) ? counts(passed, failed, skipped ?? 0) : undefined;
  } catch {
    // Not JSON after all: the exit code speaks.
    return undefined;
  }
}

/**
 * @param {number} passed
 * @param {number} failed
 * @returns {Counts}
 */
function counts(passed, failed, skipped = 0) {
  return { passed, failed, skipped };
}

/**
 * Runs Node on `args` in a process group of its own; past the limit the whole group goes.
 *
 * @param {readonly string[]} args
 * @param {Pick<Context, 'limitMs' | 'env'> & { readonly stdout: 'ignore' | 'show' }} options
 * @returns {Promise<{ code: number; output: string }>}
 */
function run(args, { limitMs, env, stdout }) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: ROOT,
      env,
      detached: true,
      stdio: ['ignore', stdout === 'ignore' ? 'ignore' : 'pipe', 'inherit'],
    });
    running.add(child);
    let output = '';
    child.stdout?.on('data', (chunk) => {
      process.stdout.write(chunk);
      output = (output + chunk).slice(-64 * 1024);
    });
    /** @type {NodeJS.Timeout | undefined} */
    let axe;
    const timer = setTimeout(() => {
      console.log(`stopped: still running after ${limitMs / 1000} s`);
      stopGroup(child, 'SIGTERM');
      axe = setTimeout(() => stopGroup(child, 'SIGKILL'), STOP_TIMEOUT_MS);
    }, limitMs);
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      clearTimeout(axe);
      running.delete(child);
      // Workers and services that a test left behind must not disturb the next phase.
      stopGroup(child, 'SIGKILL');
      resolve({ code: code ?? 1, output });
    });
  });
}

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();

/**
 * @param {import('node:child_process').ChildProcess} child
 * @param {NodeJS.Signals} signal
 */
function stopGroup(child, signal) {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error;
  }
}

function stopOnSignals() {
  for (const [signal, code] of /** @type {const} */ ([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ])) {
    process.on(signal, () => {
      for (const child of running) stopGroup(child, 'SIGKILL');
      process.exit(code);
    });
  }
}

/** @param {readonly string[]} args */
async function main(args) {
  const [first, ...rest] = args;
  const named = first !== undefined && first in PHASES;
  const patterns = named ? rest : args;
  const chosen = named ? [first] : patterns.length > 0 ? JEST_PHASES : Object.keys(PHASES);
  await prepare('full');
  const preparedSeconds = performance.now() / 1000;
  stopOnSignals();
  const folder = mkdtempSync(join(tmpdir(), 'freehold-tests-'));
  /** @type {Line[]} */
  const table = [];
  try {
    for (const name of chosen) {
      const { budgetSeconds, run: runPhase } = PHASES[name];
      console.log(`\n== ${name} (budget ${budgetSeconds} s)`);
      const from = performance.now();
      const result = await runPhase({ folder, patterns, env: process.env, limitMs: budgetSeconds * OVERRUN * 1000 });
      table.push({ name, budgetSeconds, seconds: (performance.now() - from) / 1000, result });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { table, preparedSeconds };
}

/** @param {Awaited<ReturnType<typeof main>>} done */
function printTable({ table, preparedSeconds }) {
  console.log('');
  for (const { name, budgetSeconds, seconds, result } of table) {
    const what = result
      ? `${result.passed} passed, ${result.failed} failed, ${result.skipped} skipped`
      : 'not there yet';
    const late = seconds > budgetSeconds ? '  OVER BUDGET' : '';
    console.log(`${name.padEnd(12)} ${seconds.toFixed(1).padStart(6)} s of ${budgetSeconds} s   ${what}${late}`);
  }
  const all = performance.now() / 1000;
  const late = all > BUDGET_SECONDS ? '  OVER BUDGET' : '';
  console.log(
    `${'in all'.padEnd(12)} ${all.toFixed(1).padStart(6)} s of ${BUDGET_SECONDS} s   ${preparedSeconds.toFixed(1)} s of it to install and build${late}`,
  );
  const sum = (/** @type {keyof Counts} */ key) => table.reduce((total, { result }) => total + (result?.[key] ?? 0), 0);
  const skipped = sum('skipped');
  console.log(`${sum('passed')} passed, ${sum('failed')} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  return sum('failed') === 0 && sum('passed') > 0;
}

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  console.log(HELP);
} else {
  process.exitCode = printTable(await main(args)) ? 0 : 1;
}
