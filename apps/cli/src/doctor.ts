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
  const stop = new AbortController();
  const end = (): void => stop.abort();
  process.once('SIGINT', end).once('SIGTERM', end);
  try {
    process.exitCode = await examineAgain(
      () => examine(market),
      (examination) =>
        void process.stdout.write(options.json ? `${JSON.stringify(examination)}\n` : `${render(examination)}\n`),
      options.watch ? { everyMs: WATCH_MS, signal: stop.signal } : null,
    );
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end);
    await market.close();
  }
}

/** Examines and shows, once, or again until the signal. @returns the exit code: 1 when the last look found something. */
export async function examineAgain(
  look: () => Promise<Examination>,
  show: (found: Examination) => void,
  watch: { readonly everyMs: number; readonly signal: AbortSignal } | null,
): Promise<0 | 1> {
  for (;;) {
    const found = await look();
    show(found);
    const code = found.violations.length === 0 ? 0 : 1;
    if (watch === null || watch.signal.aborted) return code;
    // An abort is how watching ends, not a failure.
    await sleep(watch.everyMs, undefined, { signal: watch.signal }).catch(() => undefined);
    if (watch.signal.aborted) return code;
  }
}

/** For people: the count, each finding, both sides of the escrow, what is under way, and whether money leaves. */
export function render(examination: Examination): string {
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
