/**
 * Verifies the verifiers: each planted bug must turn the named test red, and that test must be green without it. A bug that only
 * makes something else fail does not count. Sources are patched in a copy; the working tree is never touched.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/**
 * @typedef {{ readonly file: string; readonly find: string; readonly replace: string }} Change
 * @typedef {Change & { readonly name: string; readonly also?: readonly Change[]; readonly suite: string; readonly test: string }} Mutant
 */

/** @type {readonly Mutant[]} */
export const MUTANTS = [
  {
    name: 'no epoch check',
    file: 'libs/persistence/src/leases/progress.ts',
    find: 'l.ended_at IS NULL AND l.committed_at IS NULL AND t.epoch = l.epoch AND t.state',
    replace: 'l.committed_at IS NULL AND t.state',
    suite: 'libs/persistence/src/leases/lease-store.integration.test.ts',
    test: 'is fenced while another node holds its task',
  },
  {
    name: 'no unique receipt',
    file: 'migrations/0001-market.sql',
    find: 'CREATE TABLE receipt (\n  task_id uuid PRIMARY KEY,',
    replace: 'CREATE TABLE receipt (\n  task_id uuid NOT NULL,',
    // Without the key nothing may refer to it: the voucher's reference goes too.
    also: [
      {
        file: 'migrations/0002-chain.sql',
        find: 'task_id uuid PRIMARY KEY REFERENCES receipt',
        replace: 'task_id uuid PRIMARY KEY',
      },
    ],
    suite: 'test/integration/database-invariants.test.ts',
    test: 'refuses a second receipt for a task',
  },
  {
    name: 'outbox marked before it is sent',
    file: 'libs/persistence/src/outbox.ts',
    find: '        await send(topic, rows.map(toMessage));\n        const ids = rows.map(({ id }) => id);',
    replace:
      "        const ids = rows.map(({ id }) => id);\n        await this.#database.query('UPDATE outbox SET sent_at = clock_timestamp() WHERE id = ANY($1::bigint[])', [ids]);\n        for (const id of ids) unsent.delete(id);\n        await send(topic, rows.map(toMessage));",
    suite: 'libs/persistence/src/outbox.integration.test.ts',
    test: 'sends again what the queue refused, and nothing that it took',
  },
  {
    name: 'paid before verified',
    file: 'libs/market/src/verify-result.ts',
    find: 'if (condemned.length > 0) return',
    replace: 'if (condemned.length > drawn.rows.length) return',
    suite: 'test/integration/lease-path.test.ts',
    test: 'is void when two auditors find one bad row: nothing of it is delivered or paid, its node gets no work',
  },
  {
    name: 'paid before verified, in a market of many seeds',
    file: 'libs/market/src/verify-result.ts',
    find: 'if (condemned.length > 0) return',
    replace: 'if (condemned.length > drawn.rows.length) return',
    suite: 'libs/testing/src/sim/sim.test.ts',
    test: 'keeps every promise about rows and money in 200 markets that crash, lose messages and change their minds',
  },
  {
    name: 'no epoch checks at all, in a market of many seeds',
    file: 'libs/testing/src/sim/memory/task-moves.ts',
    find: 'task === undefined || lease.outcome !== null || lease.committed) return null;\n  return task.epoch === lease.epoch && (',
    replace: 'task === undefined || lease.committed) return null;\n  return (',
    // Each of them alone is made good by the others: a stale checkpoint may not be written, judged or paid.
    also: [
      {
        file: 'libs/market/src/verify-result.ts',
        find: "lease.state !== 'delivered' || lease.taskEpoch !== ref.epoch)",
        replace: "lease.state !== 'delivered')",
      },
      {
        file: 'libs/testing/src/sim/memory/acceptance.ts',
        find: 'task === undefined || task.epoch !== acceptance.epoch) return null;\n  if (lease.outcome !== null || !lease.committed',
        replace: 'task === undefined) return null;\n  if (!lease.committed',
      },
    ],
    suite: 'libs/testing/src/sim/sim.test.ts',
    test: 'keeps every promise about rows and money in 200 markets that crash, lose messages and change their minds',
  },
  {
    name: "anybody's signature will do",
    file: 'libs/market/src/run-lease.ts',
    find: 'return signer === this.#address',
    replace: 'return signer !== null',
    suite: 'test/integration/lease-path.test.ts',
    test: "is taken back from a node that sends another node's signature",
  },
  {
    name: 'the ledger need not balance',
    file: 'migrations/0001-market.sql',
    find: 'HAVING sum(amount) <> 0 LIMIT 1',
    replace: 'HAVING sum(amount) > 10 LIMIT 1',
    suite: 'test/integration/database-invariants.test.ts',
    test: 'refuses money from nowhere, when the transaction commits',
  },
];

const COPIED = [
  'libs',
  'contracts/abi',
  'contracts/package.json',
  'contracts/tsconfig.json',
  'migrations',
  'models',
  'test',
  'package.json',
  'jest.config.mjs',
  'jest.setup.mjs',
];
const SUITE_TIMEOUT_MS = 180_000;

/** A copy of the sources that resolves the house's own packages to itself and everything else to the real node_modules. */
function copyHouse() {
  const copy = mkdtempSync(join(tmpdir(), 'freehold-mutants-'));
  for (const entry of COPIED) {
    cpSync(join(ROOT, entry), join(copy, entry), {
      recursive: true,
      filter: (from) => !/\/(dist|node_modules|out|cache)(\/|$)/.test(relative(ROOT, from)),
    });
  }
  const modules = join(copy, 'node_modules');
  mkdirSync(join(modules, '@freehold'), { recursive: true });
  for (const entry of readdirSync(join(ROOT, 'node_modules'))) {
    if (entry !== '@freehold') symlinkSync(join(ROOT, 'node_modules', entry), join(modules, entry));
  }
  for (const lib of readdirSync(join(copy, 'libs')))
    symlinkSync(join(copy, 'libs', lib), join(modules, '@freehold', lib));
  symlinkSync(join(copy, 'contracts'), join(modules, '@freehold', 'contracts'));
  return copy;
}

/**
 * @param {string} copy
 * @param {Change} change
 */
function patch(copy, { file, find, replace }) {
  const path = join(copy, file);
  const before = readFileSync(path, 'utf8');
  if (!before.includes(find)) throw new Error(`${file} has no "${find.split('\n')[0]}": the mutant is stale`);
  writeFileSync(
    path,
    before.replace(find, () => replace),
  );
  return () => writeFileSync(path, before);
}

/**
 * The status of one named test: passed, failed, or missing.
 *
 * @param {string} copy
 * @param {Mutant} mutant
 */
function statusOf(copy, mutant) {
  const output = join(copy, 'result.json');
  rmSync(output, { force: true });
  const args = [
    '--experimental-vm-modules',
    '--no-warnings',
    resolve(ROOT, 'node_modules/jest/bin/jest.js'),
    mutant.suite,
    '--testNamePattern',
    `${escaped(mutant.test)}$`,
    '--json',
    '--outputFile',
    output,
    '--forceExit',
  ];
  spawnSync(process.execPath, args, {
    cwd: copy,
    encoding: 'utf8',
    timeout: SUITE_TIMEOUT_MS,
    env: { ...process.env, FREEHOLD_TEST_DATABASE_URL: '' },
  });
  /** @type {{ testResults: { assertionResults: { title: string; status: string }[] }[] }} */
  const { testResults } = JSON.parse(readFileSync(output, 'utf8'));
  const results = testResults.flatMap((suite) => suite.assertionResults);
  return results.find((result) => result.title === mutant.test)?.status ?? 'missing';
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

const only = process.argv[2];
const copy = copyHouse();
let failed = 0;
let passed = 0;
try {
  for (const mutant of MUTANTS.filter(({ name }) => only === undefined || name.includes(only))) {
    const before = statusOf(copy, mutant);
    const restore = [mutant, ...(mutant.also ?? [])].map((change) => patch(copy, change));
    const after = statusOf(copy, mutant);
    for (const undo of restore) undo();
    const caught = before === 'passed' && after === 'failed';
    if (caught) passed += 1;
    else failed += 1;
    console.log(
      `${caught ? 'caught ' : 'MISSED '} ${mutant.name}: "${mutant.test}" ${before} without it, ${after} with it`,
    );
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
