import { resolve } from 'node:path';
import type { Command } from 'commander';
import { rpcUrlGiven } from '@freehold/wiring/process';

// Each way out is loaded when it is taken: the chain's client alone takes longer to load than most commands to run.
type Cashout = typeof import('./cashout.ts').cashout;
type RefundOrder = typeof import('./order.ts').refundOrder;
type Rebuild = typeof import('./rebuild.ts');
type VerifyReceipts = typeof import('./verify-receipts.ts').verifyReceipts;

const RPC = ['--rpc <url>', "an endpoint of the chain; RPC_URL where it isn't given"] as const;
const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** The ways out that need nobody: an RPC endpoint, and files of one's own. */
export function addExits(program: Command, defaultData: string): void {
  addCashout(program, defaultData);
  program
    .command('relay')
    .description('Send what a payee without gas has signed for you, and keep the fee it offers.')
    .argument('<file>', 'its relay.json')
    .requiredOption('--key <file>', 'your key: the relayer that the request names')
    .option(...RPC, rpcUrlGiven())
    .action(async (file: string, options: { key: string; rpc?: string }) => {
      const { relay } = await import('./relay.ts');
      process.exitCode = await relay(file, options, print);
    });
  program
    .command('results')
    .description('Write what this node kept of a batch, for a second operator that rebuilds it.')
    .requiredOption('--job <id>', 'the batch')
    .requiredOption('--out <file>', 'where to')
    .option('--data <dir>', "the node's folder", defaultData)
    .action(async (options: { job: string; out: string; data: string }) => {
      const { exportResults } = await import('./rebuild.ts');
      process.exitCode = await exportResults(resolve(options.data), options.job, options.out, print);
    });
  addBatch(program);
  addReceipts(program);
  addOrder(program);
}

function addCashout(program: Command, defaultData: string): void {
  program
    .command('cashout')
    .description("Be paid what the receipts on this machine say, without the coordinator's help.")
    .option('--data <dir>', "the node's folder", defaultData)
    .option(...RPC, rpcUrlGiven())
    .option('--key <file>', "who sends: a key file, instead of the node's own key")
    .option('--book <id>', 'only this book')
    .option('--dry-run', 'show the plan, send nothing', false)
    .option('--json', 'one JSON line', false)
    .option('--relayer <address>', 'send nothing; sign everything so that this address can send it')
    .option('--relay-fee <amount>', "what the relayer keeps, in the token's smallest unit", '0')
    .option('--relay-file <file>', 'where the signed request goes (default: relay.json in the data folder)')
    .addHelpText(
      'after',
      `
Run it again whenever it says that something is waited for: all it remembers is on the chain.
Exit code 0: nothing is left to come. 3: something has to pass first. 1: refused, with the reason.

Examples:
  freehold node cashout --rpc https://rpc.example --dry-run
  freehold node cashout --rpc https://rpc.example --json
  freehold node cashout --rpc https://rpc.example --relayer 0x… --relay-fee 20000`,
    )
    .action(async (options: Omit<Parameters<Cashout>[0], 'data'> & { data: string }) => {
      const { cashout } = await import('./cashout.ts');
      process.exitCode = await cashout({ ...options, data: resolve(options.data) }, print);
    });
}

const each = (value: string, before: readonly string[]): readonly string[] => [...before, value];

function addBatch(program: Command): void {
  const batch = program.command('batch').description('A batch whose coordinator was lost.');
  batch
    .command('rebuild')
    .description('Part a batch into rows that were accepted and paid, and rows that are left.')
    .option(...RPC, rpcUrlGiven())
    .requiredOption('--chain <id>', 'chain id')
    .requiredOption('--escrow <address>', 'the escrow of the lost coordinator')
    .requiredOption('--book <id>', 'its book')
    .requiredOption('--job <id>', 'the batch')
    .requiredOption('--input <file>', 'its input file')
    .option('--results <file>', 'what a node wrote with `results`; repeatable', each, [])
    .option('--done <file>', 'lines of the rows that are done', 'done.jsonl')
    .option('--rest <file>', 'input lines of the rows that are left', 'rest.jsonl')
    .action(async (options: Parameters<Rebuild['rebuild']>[0]) => {
      const { rebuild } = await import('./rebuild.ts');
      process.exitCode = await rebuild(options, print);
    });
  batch
    .command('merge')
    .description('Put the parts of a batch together in the order of its input: each row once, none missing.')
    .requiredOption('--input <file>', 'the input file')
    .option('--part <file>', 'done.jsonl, and the output and error files of the rest; repeatable', each, [])
    .option('--out <file>', 'the whole', 'output.jsonl')
    .action(async (options: Parameters<Rebuild['merge']>[0]) => {
      const { merge } = await import('./rebuild.ts');
      process.exitCode = await merge(options, print);
    });
}

function addReceipts(program: Command): void {
  program
    .command('receipts')
    .description('Receipts, as anyone can check them.')
    .command('verify')
    .description('Check every receipt in a file or folder, and name the first field that is not what was signed.')
    .argument('<file>', 'a receipt, a list of them, one a line, or a folder')
    .option(...RPC, rpcUrlGiven())
    .option('--chain <id>', 'refuse receipts of another chain')
    .option('--escrow <address>', 'refuse receipts of another escrow')
    .option('--book <id>', 'refuse receipts of another book')
    .option('--delegate <address>', 'whose signature counts, instead of what the chain says')
    .option('--json', 'one JSON line', false)
    .addHelpText(
      'after',
      `
Exit code 0: all of them hold. 1: one does not.

Examples:
  freehold receipts verify .freehold/node/receipts --rpc https://rpc.example
  freehold receipts verify receipt.json --delegate 0x… --json`,
    )
    .action(async (file: string, options: Parameters<VerifyReceipts>[1]) => {
      const { verifyReceipts } = await import('./verify-receipts.ts');
      process.exitCode = await verifyReceipts(file, options, print);
    });
}

function addOrder(program: Command): void {
  program
    .command('order')
    .description("A requester's order in a book.")
    .command('refund')
    .description('Close an order and have the rest of it back, coordinator or not.')
    .option(...RPC, rpcUrlGiven())
    .requiredOption('--chain <id>', 'chain id')
    .requiredOption('--escrow <address>', 'the escrow')
    .requiredOption('--book <id>', 'the book')
    .requiredOption('--order <index>', "the order's index in it")
    .requiredOption(
      '--key <file>',
      "the payer's key file (anyone's, once it is closed: the rest goes to its refund address)",
    )
    .option('--dry-run', 'show the plan, send nothing', false)
    .option('--json', 'one JSON line', false)
    .addHelpText(
      'after',
      `
Exit code 0: the rest is back. 3: something has to pass first; run it again then. 1: refused, with the reason.

Examples:
  freehold order refund --rpc https://rpc.example --chain 1 --escrow 0x… --book 0x… --order 7 --key payer.key --dry-run`,
    )
    .action(async (options: Parameters<RefundOrder>[0]) => {
      const { refundOrder } = await import('./order.ts');
      process.exitCode = await refundOrder(options, print);
    });
}
