/** `npm run bench -- NAME`: measures one thing against its floor. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { at } from './launcher/paths.mjs';
import { prepare } from './launcher/prepare.mjs';
import { giveUp } from './launcher/progress.mjs';

const FOLDER = at('test/bench');
/** These stand on libs/testing or on packages that only development has. */
const NEED_ALL = new Set(['floors', 'memory', 'openb', 'placement', 'placement-scale', 'replay', 'slurm']);

/**
 * A bench is `test/bench/NAME.mjs` with `run`.
 *
 * @typedef {object} BenchOptions
 * @property {readonly string[]} [args] What stood after the name, without `--json`.
 * @property {boolean} [json] Nothing but the result is wanted.
 *
 * @typedef {object} BenchResult
 * @property {Readonly<Record<string, unknown>>} metrics
 * @property {Readonly<Record<string, unknown>>} [floor]
 * @property {Readonly<Record<string, unknown>>} [target]
 * @property {boolean} pass
 *
 * @typedef {(options: BenchOptions) => Promise<BenchResult>} Run
 */

function names() {
  return existsSync(FOLDER)
    ? readdirSync(FOLDER)
        .filter((file) => file.endsWith('.mjs'))
        .map((file) => file.slice(0, -'.mjs'.length))
        .sort()
    : [];
}

function help() {
  return `Measures one thing and compares it with its floor; exit code 1 below the floor.

  npm run bench -- NAME            people's words, then one line of JSON
  npm run bench -- NAME --json     the line of JSON alone
  npm run bench -- NAME --help     what it measures, and its options

Names: ${names().join(', ') || '(none yet)'}`;
}

/**
 * The comment that a bench begins with.
 *
 * @param {string} name
 */
function helpOf(name) {
  const [, comment = ''] = /\/\*\*(.*?)\*\//s.exec(readFileSync(at('test/bench', `${name}.mjs`), 'utf8')) ?? [];
  const text = comment.replace(/^ ?\* ?/gm, '').trim();
  return text.includes('npm run bench') ? text : `${text}\n\n  npm run bench -- ${name} [--json]`;
}

/**
 * A wrong option is answered like a wrong name.
 *
 * @param {Run} run
 * @param {string} name
 * @param {BenchOptions} options
 */
async function runOrExplain(run, name, options) {
  try {
    return await run(options);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'))) throw error;
    return giveUp(`${error.message}\n\n${helpOf(name)}`);
  }
}

/**
 * One line per metric, with its floor and target where there is one.
 *
 * @param {BenchResult} result
 */
function describe({ metrics, floor = {}, target = {} }) {
  return Object.entries(metrics).map(([key, value]) => {
    const beside = [
      key in floor ? `floor ${JSON.stringify(floor[key])}` : '',
      key in target ? `target ${JSON.stringify(target[key])}` : '',
    ].filter(Boolean);
    return `  ${key.padEnd(28)} ${JSON.stringify(value)}${beside.length > 0 ? `   (${beside.join(', ')})` : ''}`;
  });
}

const isHelp = (/** @type {string} */ arg) => arg === '--help' || arg === '-h';
const [name, ...args] = process.argv.slice(2);
if (name === undefined || isHelp(name)) {
  console.log(help());
} else if (!names().includes(name)) {
  giveUp(`No bench named ${JSON.stringify(name)}.\n\n${help()}`);
} else if (args.some(isHelp)) {
  console.log(helpOf(name));
} else {
  await prepare(NEED_ALL.has(name) ? 'full' : 'production');
  const json = args.includes('--json');
  /** @type {{ run: Run }} */
  const { run } = await import(pathToFileURL(at('test/bench', `${name}.mjs`)).href);
  const result = await runOrExplain(run, name, { args: args.filter((arg) => arg !== '--json'), json });
  if (!json) {
    console.log(name);
    for (const line of describe(result)) console.log(line);
    console.log(result.pass ? 'pass' : 'BELOW THE FLOOR');
  }
  console.log(
    JSON.stringify({
      name,
      metrics: result.metrics,
      floor: result.floor ?? {},
      target: result.target ?? {},
      pass: result.pass,
    }),
  );
  process.exitCode = result.pass ? 0 : 1;
}
