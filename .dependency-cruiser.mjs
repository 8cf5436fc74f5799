import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The house from top to bottom. Imports go down, never up. */
const LAYERS = [
  ['apps', 'apps/[^/]+', 'composition: Nest modules, processes, flags'],
  ['wiring', 'libs/wiring', 'binds ports to adapters, by configuration'],
  ['adapter', 'libs/(persistence|queue|p2p|chain|runtime|storage)', 'adapters: one outside thing each'],
  ['market', 'libs/market', 'use cases and ports'],
  ['protocol', 'libs/protocol', 'message schemas'],
  ['domain', 'libs/domain', 'rules, with no I/O'],
];
const at = (layer) => `^${layer}/`;
const ADAPTERS = '^libs/(persistence|queue|p2p|chain|runtime|storage)/';
/** Tests may look up for what they need to stand on: conformance suites and embedded services. Nothing that ships may. */
const TESTS = '(\\.test\\.ts$|^(apps|libs)/[^/]+/test/)';
const FOR_TESTS = '^libs/(testing/|wiring/src/embedded/)';

const upward = LAYERS.slice(1).map(([name, layer, what], i) => ({
  name: `${name}-looks-up`,
  comment: `${layer} is ${what}. It may know what lies below it, never what lies above.`,
  severity: 'error',
  from: { path: at(layer), pathNot: TESTS },
  to: { path: LAYERS.slice(0, i + 1).map(([, above]) => at(above)) },
}));

/** Files that a package's `exports` names: its doors. */
function frontDoors() {
  const libs = join(import.meta.dirname, 'libs');
  return readdirSync(libs).flatMap((name) => {
    const file = join(libs, name, 'package.json');
    if (!existsSync(file)) return [];
    const entries = Object.values(JSON.parse(readFileSync(file, 'utf8')).exports ?? {});
    return entries.map(({ source }) => `^libs/${name}/${source.replace('./', '').replaceAll('.', '\\.')}$`);
  });
}

export default {
  forbidden: [
    ...upward,
    {
      name: 'tests-look-up-only-for-ground',
      comment: 'A test of a lower layer may use libs/testing and the embedded services, nothing else from above.',
      severity: 'error',
      from: { path: TESTS, pathNot: '^(apps|libs/(wiring|testing))/' },
      to: { path: ['^apps/', '^libs/wiring/'], pathNot: FOR_TESTS },
    },
    {
      name: 'domain-is-pure',
      comment: 'Rules take all they need as arguments. Only hashes come from outside.',
      severity: 'error',
      from: { path: '^libs/domain/src', pathNot: TESTS },
      to: { pathNot: '^(libs/domain/src|node_modules/@noble/hashes)' },
    },
    {
      name: 'protocol-is-schemas',
      severity: 'error',
      from: { path: '^libs/protocol/src', pathNot: TESTS },
      to: { pathNot: '^(libs/(protocol|domain)/src|node_modules/(zod|@noble/hashes))' },
    },
    {
      name: 'market-does-no-io',
      comment: 'Use cases speak to the outside through ports alone.',
      severity: 'error',
      from: { path: '^libs/market/src', pathNot: TESTS },
      to: { pathNot: '^libs/(market|protocol|domain)/' },
    },
    {
      name: 'adapters-do-not-meet',
      comment: 'One outside thing each. What two of them need is a port of market.',
      severity: 'error',
      from: { path: ADAPTERS },
      to: { path: ADAPTERS, pathNot: '^libs/$1/' },
    },
    {
      name: 'apps-do-not-meet',
      comment: 'Apps start each other as processes; they share code through libs.',
      severity: 'error',
      from: { path: '^apps/([^/]+)/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'by-the-front-door',
      comment: "From outside only the files that a package's `exports` names.",
      severity: 'error',
      from: { path: '^(?:apps|libs)/([^/]+)/' },
      to: { path: '^libs/[^/]+/', pathNot: ['^libs/$1/', ...frontDoors()] },
    },
    {
      name: 'nest-stays-at-the-top',
      severity: 'error',
      from: { path: '^libs/', pathNot: '^libs/wiring/' },
      to: { path: 'node_modules/@nestjs/' },
    },
    {
      name: 'launchers-are-lean',
      comment: 'The embedded services start before anything else: no framework, no adapter.',
      severity: 'error',
      from: { path: '^libs/wiring/src/embedded/', pathNot: TESTS },
      to: { path: ['node_modules/@nestjs/', ADAPTERS], pathNot: '^libs/wiring/src/embedded/' },
    },
    {
      name: 'testing-stays-in-tests',
      comment: 'Nothing that ships imports suites, fakes or a test runner.',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: [TESTS, '^libs/testing/'] },
      to: { path: ['^libs/testing/', TESTS, 'node_modules/(@jest/|jest|fast-check|supertest)'] },
    },
    {
      name: 'testing-knows-only-ports',
      severity: 'error',
      from: { path: '^libs/testing/', pathNot: TESTS },
      to: { path: ['^apps/', '^libs/(?!testing/|market/|protocol/|domain/)'] },
    },
    {
      name: 'declared',
      comment: "A package that is imported stands in the importer's package.json.",
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: [TESTS, '^libs/testing/'] },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'unknown'] },
    },
    {
      name: 'exists',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    { name: 'no-circle', severity: 'error', from: {}, to: { circular: true } },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.tests.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '/dist/' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['source', 'import', 'node', 'default'] },
  },
};
