/**
 * Proves the fences: plants one violation per rule into a small copy of the house, and asks the tools to find it.
 *
 * A rule whose pattern no longer matches (a folder renamed, a tool updated) stays green for ever; here it turns red.
 * The copy has the real configurations, package.json files and compiler flags, and sources of one line each.
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { at, TOOLS } from '../../scripts/launcher/paths.mjs';
import { FLOATING_PROMISE, PLANTS } from './plants.mjs';

const COPIED = [
  '.dependency-cruiser.mjs',
  '.oxlintrc.json',
  'tsconfig.base.json',
  'tsconfig.tests.json',
  'package.json',
];

/**
 * A house in which every package has its doors and nothing behind them.
 *
 * @param {string} house
 */
function buildHouse(house) {
  for (const file of COPIED) copyFileSync(at(file), join(house, file));
  mkdirSync(join(house, 'node_modules/@freehold'), { recursive: true });
  for (const name of readdirSync(at('node_modules'))) {
    if (name === '@freehold' || (name.startsWith('.') && name !== '.bin')) continue;
    symlinkSync(at('node_modules', name), join(house, 'node_modules', name));
  }
  write(house, 'test/bench/house.mjs', 'export const door = 1;\n');
  for (const place of packages()) {
    const folder = join(house, place);
    mkdirSync(folder, { recursive: true });
    for (const file of ['package.json', 'tsconfig.json'])
      if (existsSync(at(place, file))) copyFileSync(at(place, file), join(folder, file));
    symlinkSync(folder, join(house, 'node_modules/@freehold', basename(place)));
    /** @type {{ exports?: Readonly<Record<string, { source?: string }>> }} */
    const { exports = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    if (place !== 'contracts') write(house, `${place}/src/index.ts`, 'export const door = 1;\n');
    for (const { source } of Object.values(exports))
      if (source) write(house, join(place, source), 'export const door = 1;\n');
  }
}

/** Folders of the workspace's packages. */
function packages() {
  const inside = ['libs', 'apps'].flatMap((group) => readdirSync(at(group)).map((name) => `${group}/${name}`));
  return [...inside, 'contracts'].filter((place) => existsSync(at(place, 'package.json')));
}

/**
 * @param {string} house
 * @param {string} file
 * @param {string} text
 */
function write(house, file, text) {
  mkdirSync(dirname(join(house, file)), { recursive: true });
  writeFileSync(join(house, file), text);
}

/**
 * @param {string} house
 * @param {string} script
 * @param {readonly string[]} args
 */
function run(house, script, args) {
  const done = spawnSync(process.execPath, [script, ...args], {
    cwd: house,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (done.error) throw done.error;
  return done;
}

/**
 * `file → rule` for everything dependency-cruiser complains about.
 *
 * @param {string} house
 */
function arrowsBroken(house) {
  const done = run(house, TOOLS.depcruise, [
    '--config',
    '.dependency-cruiser.mjs',
    '--output-type',
    'json',
    'apps',
    'libs',
  ]);
  if (!done.stdout.startsWith('{')) throw new Error(`dependency-cruiser gave no report:\n${done.stdout}${done.stderr}`);
  /** @type {{ summary: { violations: { from: string; rule: { name: string } }[] } }} */
  const { summary } = JSON.parse(done.stdout);
  return summary.violations.map(({ from, rule }) => `${from} → ${rule.name}`);
}

/**
 * `file → rule` for everything oxlint complains about.
 *
 * @param {string} house
 */
function lintsBroken(house) {
  const done = run(house, TOOLS.oxlint, [
    '--type-aware',
    '--disable-nested-config',
    '--tsconfig',
    'tsconfig.tests.json',
    '--format',
    'json',
    'libs',
    'apps',
    'test',
  ]);
  if (!done.stdout.trimStart().startsWith('{')) throw new Error(`oxlint gave no report:\n${done.stdout}${done.stderr}`);
  /** @type {{ diagnostics: { filename: string; code: string }[] }} */
  const { diagnostics } = JSON.parse(done.stdout);
  return diagnostics.map(({ filename, code }) => `${filename} → ${/\((.*)\)/.exec(code)?.[1] ?? code}`);
}

/**
 * Every rule of the cruiser has a plant, so that a new rule comes with its proof.
 *
 * @returns {Promise<string[]>}
 */
async function rulesWithoutPlant() {
  const { default: config } = await import(at('.dependency-cruiser.mjs'));
  const planted = new Set(PLANTS.flatMap(({ arrow }) => (arrow ? [arrow] : [])));
  /** @type {{ forbidden: readonly { name: string }[] }} */
  const { forbidden } = config;
  return forbidden.map(({ name }) => name).filter((name) => !planted.has(name));
}

async function main() {
  const failures = (await rulesWithoutPlant()).map(
    (name) => `rule ${name} has no planted violation in test/arrows/plants.mjs`,
  );
  const house = mkdtempSync(join(tmpdir(), 'freehold-arrows-'));
  try {
    buildHouse(house);
    for (const found of [...arrowsBroken(house), ...lintsBroken(house)])
      failures.push(`the clean house is not clean: ${found}`);
    for (const { file, text, also = {} } of PLANTS) {
      write(house, file, text);
      for (const [path, content] of Object.entries(also)) write(house, path, content);
    }
    const arrows = new Set(arrowsBroken(house));
    const lints = new Set(lintsBroken(house));
    for (const { file, arrow, lint } of PLANTS) {
      if (arrow && !arrows.has(`${file} → ${arrow}`))
        failures.push(`dependency-cruiser did not report ${arrow} in ${file}`);
      if (lint && !lints.has(`${file} → ${lint}`)) failures.push(`oxlint did not report ${lint} in ${file}`);
      if (!arrow && !lint && [...arrows, ...lints].some((found) => found.startsWith(`${file} `)))
        failures.push(`${file} is allowed, and was reported`);
    }
    if (!lints.has(`${FLOATING_PROMISE} → no-floating-promises`))
      failures.push('type-aware linting is off: a floating promise went unseen');
  } finally {
    rmSync(house, { recursive: true, force: true });
  }
  for (const failure of failures) console.error(failure);
  console.log(
    `${PLANTS.length - Math.min(failures.length, PLANTS.length)} planted files judged rightly, ${failures.length} not`,
  );
  process.exitCode = failures.length === 0 ? 0 : 1;
}

await main();
