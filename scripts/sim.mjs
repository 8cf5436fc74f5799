/** `npm run sim`: whole markets on a fake clock, network and stores, by seeds. */
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { at } from './launcher/paths.mjs';
import { prepare } from './launcher/prepare.mjs';

const HELP = `Runs seeded markets and looks at every row and every unit of money afterwards. Exit code 1 when a promise was broken.

  npm run sim                    200 seeds, from 1
  npm run sim -- --seeds 5000    as many as you like; --from N starts elsewhere
  npm run sim -- --seed 17       one of them again, with everything it says
  npm run sim -- --attackers     every attack on a market without accidents, beside an honest player in the same place;
                                 --seeds N (10), --role NAME, --json
  npm run sim -- --json          the last line alone, as JSON

The same seed gives the same ledger, hash by hash, on every machine. A broken seed prints the line that runs it again.`;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    attackers: { type: 'boolean', default: false },
    role: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

/** @typedef {typeof import('@freehold/testing/sim')} Sim */

/**
 * @param {string} name
 * @param {string} text
 * @returns {number}
 */
function whole(name, text) {
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  console.error(`--${name} ${text}: expected a whole number above 0.`);
  return process.exit(2);
}

/**
 * @param {Sim} sim
 * @param {number} seed
 */
async function one({ runSeed }, seed) {
  const report = await runSeed(seed);
  console.log(values.json ? JSON.stringify(report) : JSON.stringify(report, null, 2));
  return report.violations.length === 0;
}

/**
 * @param {Sim} sim
 * @param {number} from
 * @param {number} seeds
 */
async function many({ runSeed, replayLine }, from, seeds) {
  /** @type {Record<string, number>} */
  const sums = {
    events: 0,
    jobs: 0,
    begun: 0,
    gangs: 0,
    rows: 0,
    receipts: 0,
    deaths: 0,
    reorgs: 0,
    queueWipes: 0,
    rejected: 0,
    reexecuted: 0,
  };
  /** @type {number[]} */
  const broken = [];
  for (let seed = from; seed < from + seeds; seed += 1) {
    const report = await runSeed(seed);
    for (const [key, value] of Object.entries(report)) if (key in sums) sums[key] += Number(value);
    if (report.violations.length === 0) continue;
    broken.push(seed);
    if (!values.json) console.log(`seed ${seed}: ${report.violations[0]}\n  ${replayLine(seed)}`);
  }
  if (!values.json) console.log(`${seeds} seeds, ${broken.length} broken`);
  console.log(JSON.stringify({ from, seeds, ...sums, broken, pass: broken.length === 0 }));
  return broken.length === 0;
}

/**
 * Passes when everything that pays more than honesty is written down as an exception, and nothing else is.
 *
 * @param {Sim} sim
 * @param {number} seeds
 */
async function attacked({ ATTACKS, ROLES, attackMarkdown, attackTable, isAsWritten }, seeds) {
  if (values.role !== undefined && !ROLES.some((role) => role === values.role)) {
    console.error(`--role ${values.role}: expected one of ${ROLES.join(', ')}.`);
    process.exit(2);
  }
  const attacks = ATTACKS.filter(({ role }) => values.role === undefined || role === values.role);
  const lines = await attackTable(seeds, attacks);
  if (!values.json) console.log(`${attackMarkdown(lines)}\n`);
  const surprises = lines.filter((line) => !isAsWritten(line)).map(({ strategy }) => strategy);
  console.log(JSON.stringify({ seeds, lines, surprises, pass: surprises.length === 0 }));
  return surprises.length === 0;
}

if (values.help) {
  console.log(HELP);
} else {
  await prepare('full');
  /** @type {Sim} */
  const sim = await import(pathToFileURL(at('libs/testing/dist/sim/index.js')).href);
  const seeds = whole('seeds', values.seeds ?? (values.attackers ? '10' : '200'));
  let isGood;
  if (values.attackers) isGood = await attacked(sim, seeds);
  else if (values.seed === undefined) isGood = await many(sim, whole('from', values.from), seeds);
  else isGood = await one(sim, whole('seed', values.seed));
  process.exitCode = isGood ? 0 : 1;
}
