import { resolve } from 'node:path';
import type { Command } from 'commander';
import { haltPayouts, payouts, reachMarket, resumePayouts } from '@freehold/wiring/operator';
import { HOME } from './doctor.ts';

interface Options {
  readonly data: string;
  readonly json: boolean;
}

/** The operator's hand on payouts. They halt by themselves when escrow and ledger differ, and resume when they agree again. */
export function addPayouts(program: Command): void {
  const payoutsCommand = program.command('payouts').description('Whether money leaves: status, halt, resume.');
  const each = (name: string, description: string): Command =>
    payoutsCommand
      .command(name)
      .description(description)
      .option('--data <dir>', "the market's data directory", HOME)
      .option('--json', 'one JSON line', false);
  each('status', 'Whether payouts run, and if not, why.').action(
    async (options: Options) => await show(options, payouts),
  );
  each('halt', 'Finalise, withdraw and refund nothing until you say so. Epochs are still posted.')
    .requiredOption('--why <text>', 'for whoever finds them halted')
    .action(
      async (options: Options & { why: string }) => await show(options, (market) => haltPayouts(market, options.why)),
    );
  each('resume', 'Let money leave again. A mismatch that is still there halts it again, unless you take it on.')
    .option('--accept <difference>', 'the difference (escrow − ledger) that you have looked into and take on')
    .addHelpText(
      'after',
      `
Examples:
  freehold payouts status --json
  freehold payouts halt --why "the endpoint shows another chain"
  freehold payouts resume
  freehold payouts resume --accept=-250000`,
    )
    .action(async (options: Options & { accept?: string }) => {
      const accepted = options.accept === undefined ? null : differenceFrom(options.accept);
      await show(options, (market) => resumePayouts(market, accepted));
    });
}

async function show(
  options: Options,
  act: (market: Awaited<ReturnType<typeof reachMarket>>) => ReturnType<typeof payouts>,
): Promise<void> {
  const market = await reachMarket(resolve(options.data));
  try {
    const { halted, accepted } = await act(market);
    const taken = accepted === 0n ? '' : `; a difference of ${accepted} is taken on`;
    const words =
      halted === null
        ? `payouts run${taken}`
        : `payouts are halted since ${halted.since} by the ${halted.by}: ${halted.why}`;
    process.stdout.write(`${options.json ? JSON.stringify({ halted, accepted: String(accepted) }) : words}\n`);
    process.exitCode = halted === null ? 0 : 1;
  } finally {
    await market.close();
  }
}

function differenceFrom(text: string): bigint {
  if (!/^-?\d{1,20}$/.test(text))
    throw new Error(`--accept ${text}: expected a whole number of the token's smallest unit, as doctor prints it.`);
  return BigInt(text);
}
