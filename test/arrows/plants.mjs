/** What the fences must catch (`arrow`: a rule of dependency-cruiser, `lint`: one of oxlint), and what they must let pass (neither). */
export const FLOATING_PROMISE = 'libs/wiring/src/planted-floating.ts';

const uses = (/** @type {string} */ what) => `import { door } from '${what}';\nexport const used = door;\n`;

export const PLANTS = [
  { arrow: 'wiring-looks-up', file: 'libs/wiring/src/planted-up.ts', text: uses('../../../apps/api/src/index.ts') },
  { arrow: 'adapter-looks-up', file: 'libs/queue/src/planted-up.ts', text: uses('@freehold/wiring') },
  { arrow: 'market-looks-up', file: 'libs/market/src/planted-up.ts', text: uses('@freehold/persistence') },
  { arrow: 'protocol-looks-up', file: 'libs/protocol/src/planted-up.ts', text: uses('@freehold/market') },
  { arrow: 'domain-looks-up', file: 'libs/domain/src/planted-up.ts', text: uses('@freehold/protocol') },
  { arrow: 'tests-look-up-only-for-ground', file: 'libs/queue/src/planted-up.test.ts', text: uses('@freehold/wiring') },
  { file: 'libs/queue/src/planted-ground.integration.test.ts', text: uses('@freehold/wiring/embedded') },
  { arrow: 'domain-is-pure', file: 'libs/domain/src/planted-io.ts', text: "export { readFileSync } from 'node:fs';\n" },
  {
    arrow: 'protocol-is-schemas',
    file: 'libs/protocol/src/planted-io.ts',
    text: "export { connect } from 'node:net';\n",
  },
  { arrow: 'market-does-no-io', file: 'libs/market/src/planted-io.ts', text: "export { Client } from 'pg';\n" },
  { arrow: 'adapters-do-not-meet', file: 'libs/chain/src/planted-meeting.ts', text: uses('@freehold/storage') },
  { arrow: 'apps-do-not-meet', file: 'apps/cli/src/planted-meeting.ts', text: uses('../../api/src/index.ts') },
  {
    arrow: 'by-the-front-door',
    file: 'libs/chain/src/planted-back-door.ts',
    text: uses('../../market/src/planted-inside.ts'),
    also: { 'libs/market/src/planted-inside.ts': 'export const door = 1;\n' },
  },
  {
    arrow: 'nest-stays-at-the-top',
    file: 'libs/storage/src/planted-nest.ts',
    text: "export { Injectable } from '@nestjs/common';\n",
  },
  { arrow: 'launchers-are-lean', file: 'libs/wiring/src/embedded/planted-heavy.ts', text: uses('@freehold/queue') },
  { arrow: 'testing-stays-in-tests', file: 'libs/runtime/src/planted-fake.ts', text: uses('@freehold/testing') },
  { arrow: 'testing-knows-only-ports', file: 'libs/testing/src/planted-adapter.ts', text: uses('@freehold/queue') },
  { arrow: 'declared', file: 'libs/storage/src/planted-undeclared.ts', text: "export { Command } from 'commander';\n" },
  { arrow: 'exists', file: 'libs/storage/src/planted-missing.ts', text: "export { nothing } from './not-there.ts';\n" },
  {
    arrow: 'no-circle',
    file: 'libs/storage/src/planted-circle.ts',
    text: "export { other } from './planted-other.ts';\nexport const one = 1;\n",
    also: {
      'libs/storage/src/planted-other.ts': "import { one } from './planted-circle.ts';\nexport const other = one;\n",
    },
  },
  {
    lint: 'no-restricted-globals',
    file: 'libs/domain/src/planted-clock.ts',
    text: 'export const now = (): number => Date.now();\n',
  },
  {
    lint: 'no-restricted-globals',
    file: 'libs/market/src/planted-timer.ts',
    text: 'export const wait = (f: () => void): unknown => setTimeout(f, 1);\n',
  },
  {
    lint: 'no-restricted-properties',
    file: 'libs/domain/src/planted-chance.ts',
    text: 'export const chance = (): number => Math.random();\n',
  },
  {
    lint: 'no-restricted-properties',
    file: 'apps/api/src/planted-environment.ts',
    text: 'export const home = process.env;\n',
  },
  {
    lint: 'no-restricted-properties',
    file: 'libs/p2p/src/planted-environment.ts',
    text: "export const home = process.env['HOME'];\n",
  },
  { file: 'libs/wiring/src/planted-environment.ts', text: "export const home = process.env['HOME'];\n" },
  {
    lint: 'no-floating-promises',
    file: FLOATING_PROMISE,
    text: 'export function fire(work: () => Promise<void>): void {\n  work();\n}\n',
  },
  {
    lint: 'no-explicit-any',
    file: 'libs/chain/src/planted-any.ts',
    text: 'export const anything = (x: any): unknown => x;\n',
  },
  {
    lint: 'switch-exhaustiveness-check',
    file: 'libs/domain/src/planted-switch.ts',
    text: "export function first(x: 'a' | 'b'): number {\n  switch (x) {\n    case 'a':\n      return 1;\n  }\n  return 2;\n}\n",
  },
  {
    lint: 'ban-ts-comment',
    file: 'libs/chain/src/planted-ignore.ts',
    text: '// @ts-ignore\nexport const n: number = 1;\n',
  },
  {
    lint: 'no-empty',
    file: 'libs/chain/src/planted-empty.ts',
    text: 'export function hush(f: () => void): void {\n  try {\n    f();\n  } catch {}\n}\n',
  },
  {
    lint: 'no-focused-tests',
    file: 'libs/chain/src/planted-focus.test.ts',
    text: "import { it } from '@jest/globals';\nit.only('focuses', () => undefined);\n",
  },
  {
    lint: 'no-disabled-tests',
    file: 'libs/chain/src/planted-skip.test.ts',
    text: "import { it } from '@jest/globals';\nit.skip('sleeps', () => undefined);\n",
  },
  {
    lint: 'no-unsafe-call',
    file: 'test/bench/planted-call.mjs',
    text: "/** @param {any} store */\nexport const start = (store) => store.start('job');\n",
  },
  {
    lint: 'no-unsafe-argument',
    file: 'test/bench/planted-argument.mjs',
    text: '/** @param {any} plan */\nexport const start = (plan) => Number.parseInt(plan, 10);\n',
  },
];
