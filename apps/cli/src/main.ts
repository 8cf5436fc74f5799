import { Command } from 'commander';
import { addDoctor } from './doctor.ts';
import { addNode } from './node.ts';
import { addWhy } from './why.ts';
import { addPayouts } from './payouts.ts';
import { addStatement } from './statement.ts';

const program = new Command('freehold')
  .description('Freehold: GPU work with evidence per row and payment on chain.')
  .showHelpAfterError()
  .addHelpText(
    'after',
    `
Examples:
  freehold node up --coordinator /ip4/127.0.0.1/tcp/4001/p2p/16Uiu2… --engine llama-cpp
  freehold node status
  freehold node cashout --rpc https://rpc.example --dry-run
  freehold receipts verify .freehold/node/receipts
  freehold node why
  freehold why batch_…
  freehold doctor --json
  freehold payouts status
  freehold statement --from 2026-11-01 --until 2026-12-01 --csv`,
  );

addNode(program);
addDoctor(program);
addWhy(program);
addPayouts(program);
addStatement(program);

program.parseAsync(process.argv).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
});
