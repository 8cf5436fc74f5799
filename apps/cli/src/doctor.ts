import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { examine, reachMarket, type Examination } from '@freehold/wiring/operator';

interface Options {
  readonly data: string;
  readonly json: boolean;
  readonly watch: boolean;
}

export const HOME = fileURLToPath(new URL('../../../.freehold', import.meta.url));
const WATCH_MS = 5_000;

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('Proves the books: no job lost, nothing billed twice, every unit of money accounted for.')
    .option('--data <dir>', "the market's data directory", HOME)
    .option('--json', 'one JSON line', false)
    .option('--watch', 'again every five seconds, until Ctrl-C', false)
    .action(runDoctor);
}

async function runDoctor(options: Options): Promise<void> {
  const market = await reachMarket(resolve(options.data));
  try {
    for (;;) {
      const examination = await examine(market);
      process.stdout.write(options.json ? `${JSON.stringify(examination)}\n` : `${render(examination)}\n`);
      process.exitCode = examination.violations.length === 0 ? 0 : 1;
      if (!options.watch) return;
      await sleep(WATCH_MS);
    }
  } finally {
    await market.close();
  }
}

function render(examination: Examination): string {
  const { checks, violations, chain, payoutsHalted } = examination;
  const found = violations.map((violation) => `  ${violation.check}: ${violation.what}`);
  const sides =
    chain === null
      ? []
      : [`  at block ${chain.block} the escrow holds ${chain.escrow}, the ledger says ${chain.ledger}`];
  const pending = (chain?.pending ?? []).map((what) => `  under way: ${what}`);
  const halted = payoutsHalted === null ? [] : [`  payouts are halted: ${payoutsHalted}`];
  return [`${checks} checks, ${violations.length} violations`, ...found, ...sides, ...pending, ...halted].join('\n');
}
