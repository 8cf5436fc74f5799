import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import { ATTACKS, attackTable, isAsWritten } from './attack-table.ts';

/** One of every role; all of them are played by `npm run sim -- --attackers`. */
const PLAYED = new Set([
  'gives a cap that the work cannot keep',
  'makes up 10 % of its rows',
  'a new name after each bench, makes up half',
  'both pass everything, one makes up half',
  'posts less than its vouchers say',
]);
const SEEDS = 1;
/** Without the rules against them, closing an order and leaving audits to others pay in this market. */
const TEMPTING_SEED = 4;

it('honest is the best strategy for a requester, a provider, a sybil, a pair of auditors and an operator', async () => {
  const attacks = ATTACKS.filter(({ name }) => PLAYED.has(name));
  expect(attacks.map(({ role }) => role)).toEqual(['requester', 'provider', 'sybil', 'auditor', 'operator']);
  const lines = await attackTable(SEEDS, attacks);
  expect(lines.filter(({ isHonestBest }) => !isHonestBest)).toEqual([]);
  expect(lines.every(({ honestProfit, caught }) => honestProfit >= 0 && caught === 1)).toBe(true);
  expect(lines.every(isAsWritten)).toBe(true);
}, 300_000);

it('who closes its order under running work, keeps leases without delivering, or leaves audits to others earns no more than who does not', async () => {
  const names = new Set([
    'closes its order as soon as work has begun',
    'keeps half of its leases and delivers nothing of them',
    'answers no audit',
  ]);
  const attacks = ATTACKS.filter(({ name }) => names.has(name));
  expect(attacks.map(({ role }) => role)).toEqual(['requester', 'provider', 'auditor']);
  const lines = await attackTable(SEEDS, attacks, TEMPTING_SEED);
  expect(lines.filter(({ profit, honestProfit }) => profit > honestProfit)).toEqual([]);
}, 300_000);

it('every attack stands in the written table, and what pays more than honesty is written down with its reason', () => {
  const text = readFileSync(new URL('../../../../../docs/protocol/attackers.md', import.meta.url), 'utf8');
  const rows = text.split('\n').filter((line) => /^\| (requester|provider|sybil|auditor|operator) /.test(line));
  const cells = rows.map((row) => row.split('|').map((cell) => cell.trim()));
  expect(cells.map((row) => row[2])).toEqual(ATTACKS.map(({ name }) => name));
  const excepted = new Map(ATTACKS.map(({ name, exception }) => [name, exception]));
  const unexplained = cells.filter((row) => row[9] !== 'yes' && excepted.get(row[2] ?? '') === undefined);
  expect(unexplained).toEqual([]);
  const prose = text.replace(/\s+/g, ' ');
  for (const exception of excepted.values()) if (exception !== undefined) expect(prose).toContain(exception);
});
