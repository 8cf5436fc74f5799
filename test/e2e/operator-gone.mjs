/**
 * The operator disappears for ever in the middle of a batch: its processes are killed, its database, objects and key deleted.
 * What is left is the chain, each node's receipts, results and key, and the requester's wallet and input file.
 *
 * A second operator with an empty database rebuilds the batch and finishes it on a market and a book of its own; then everybody
 * leaves the first book by the commands of docs/operating/exit.md, word by word. No row is lost, none is paid for twice, and
 * each book's payments are compared with its receipts in the token itself. The last line is JSON.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { House } from '../../apps/devnet/dist/house/house.js';
import { addressOfKey, tokenBalance } from '../../libs/chain/dist/index.js';
import { batchLines, submitBatch } from '../chaos/job.mjs';
import { ExitCommands, homeOf, receiptsOf, rpc } from './exit-commands.mjs';
import { SecondOperator } from './second-operator.mjs';

/**
 * @import { Hex } from 'viem'
 * @import { RunningNode } from '../../apps/devnet/dist/house/house.js'
 */

const ROWS = 200;
const RECEIPTS_MIN = 2;
/** Against hanging only. */
const WORK_LIMIT_MS = 90_000;
const DEPOSIT = 1_000_000_000n;

const startMs = performance.now();
const say = (/** @type {string} */ text) =>
  process.stderr.write(`[${((performance.now() - startMs) / 1_000).toFixed(1).padStart(6)} s] ${text}\n`);
const folder = mkdtempSync(join(tmpdir(), 'freehold-exit-'));
const dataDir = join(folder, 'first');
mkdirSync(dataDir);
const house = await House.open({ dataDir, httpPort: 0, fresh: false, say });
house.closeOnSignals();
let second;
let result;
try {
  const batch = await workUntilVouchers();
  const nodes = [...house.nodes.values()];
  await destroyOperator(nodes);
  const homes = nodes.map((node) => ({ node, home: homeOf(node, join(folder, 'homes')) }));
  const commands = commandsFor(batch);
  second = await SecondOperator.open({ dataDir: join(folder, 'second'), rpcUrl: house.rpcUrl, nodes, say });
  const finished = await second.finish({ homes, commands, input: join(folder, 'input.jsonl'), rows: ROWS });
  await second.close();
  const left = await everybodyLeaves(homes, commands);
  const problems = [...finished.problems, ...left.problems];
  result = { pass: problems.length === 0, problems, rows: ROWS, ...finished.facts, ...left.facts, runs: commands.runs };
} catch (error) {
  result = { pass: false, fault: error instanceof Error ? error.stack : String(error) };
} finally {
  await second?.close();
  await house.close();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
const seconds = Number(((performance.now() - startMs) / 1_000).toFixed(1));
console.log(JSON.stringify({ ...result, seconds }));
process.exitCode = result.pass ? 0 : 1;

/** The batch runs until every node has been promised money for some of its rows. */
async function workUntilVouchers() {
  await house.startCoordinator();
  for (const name of ['a', 'b'])
    await house.startNode({
      name,
      engine: 'llama-cpp',
      mode: 'slow',
      rates: { inputToken: '50000', outputToken: '100000' },
      flags: ['--slow-ms', '120'],
    });
  const lines = batchLines(ROWS, 0);
  writeFileSync(join(folder, 'input.jsonl'), lines.map((line) => `${line}\n`).join(''));
  const batch = await submitBatch(house, lines, 'first');
  say(`batch ${batch} is submitted`);
  const nodes = [...house.nodes.values()];
  const deadline = performance.now() + WORK_LIMIT_MS;
  while (nodes.some(({ dataDir: dir }) => receiptsOf(dir).length < RECEIPTS_MIN)) {
    if (performance.now() > deadline)
      throw new Error(`after ${WORK_LIMIT_MS / 1_000} s a node has fewer than ${RECEIPTS_MIN} vouchers`);
    await sleep(100);
  }
  say(`vouchers at the nodes: ${nodes.map(({ dataDir: dir }) => receiptsOf(dir).length).join(', ')}`);
  return batch;
}

/**
 * Nothing of the operator remains; nodes stop as well, so that only what lies on their disks can help them.
 *
 * @param {readonly RunningNode[]} nodes
 */
async function destroyOperator(nodes) {
  for (const name of ['scheduler', 'api', ...nodes.map(({ name: node }) => node)]) house.child(name)?.killNow();
  if (house.postgres === null) throw new Error("the database is not the house's own");
  await house.postgres.stop('kill');
  for (const entry of ['postgres', 'objects', 'coordinator.key', 'market.json'])
    rmSync(join(dataDir, entry), { recursive: true, force: true, maxRetries: 5 });
  say('api, scheduler, database, object store and the coordinator’s key are gone');
}

/** @param {string} batch */
function commandsFor(batch) {
  const { chainId, escrow, book } = house.chain;
  const { order } = JSON.parse(readFileSync(join(dataDir, 'requester.json'), 'utf8'));
  const words = {
    '--chain ID': `--chain ${chainId}`,
    '--escrow 0x…': `--escrow ${escrow}`,
    '--book 0x…': `--book ${book}`,
    '--order N': `--order ${order}`,
    'PAYER.key': join(dataDir, 'requester.json'),
    BATCH: batch,
  };
  return new ExitCommands({ rpcUrl: house.rpcUrl, words, say });
}

/**
 * Every provider cashes the old book to the unit, and the requester has the rest of its deposit back.
 *
 * @param {readonly { readonly home: string }[]} homes
 * @param {ExitCommands} commands
 */
async function everybodyLeaves(homes, commands) {
  const token = /** @type {Hex} */ (house.chain.token);
  /** @type {{ home: string; address: Hex; receipts: number; promised: bigint; paid: bigint }[]} */
  const providers = [];
  for (const { home } of homes) {
    const receipts = receiptsOf(join(home, '.freehold/node'));
    const promised = receipts.reduce((sum, { receipt }) => sum + BigInt(receipt.charge) - BigInt(receipt.fee), 0n);
    const address = receipts[0].receipt.payout;
    await commands.run('receipts verify', home, 0);
    const poor = await commands.run('node cashout --rpc URL', home, null);
    const [{ steps = [], refused }] = poor.books ?? [{}];
    if (steps.length > 0 && !refused?.why.includes(address))
      throw new Error(`a node without gas was not told what it needs: ${JSON.stringify(poor)}`);
    await rpc(house.rpcUrl, 'anvil_setBalance', [address, '0xde0b6b3a7640000']);
    await commands.run('node cashout --rpc URL --dry-run', home, 3);
    providers.push({ home, address, receipts: receipts.length, promised, paid: 0n });
  }
  // The book dies once, for all of them; then everybody waits for the same notice.
  for (const { home } of providers) await commands.untilDone('node cashout --rpc URL', home);
  for (const provider of providers) provider.paid = await tokenBalance(house.rpcUrl, token, provider.address);
  /** @type {{ walletKey: Hex }} */
  const { walletKey } = JSON.parse(readFileSync(join(dataDir, 'requester.json'), 'utf8'));
  await commands.untilDone('order refund', providers[0].home);
  const refunded = await tokenBalance(house.rpcUrl, token, /** @type {Hex} */ (addressOfKey(walletKey)));
  const expected = DEPOSIT - providers.reduce((sum, { promised }) => sum + promised, 0n);
  const problems = providers
    .filter(({ promised, paid }) => promised !== paid || promised === 0n)
    .map(({ address, promised, paid }) => `the first book promised ${address} ${promised} and paid ${paid}`);
  if (refunded !== expected) problems.push(`${refunded} were refunded of ${expected}`);
  return {
    problems,
    facts: {
      providers: providers.map(({ address, receipts, promised, paid }) => ({
        address,
        receipts,
        promised: String(promised),
        paid: String(paid),
      })),
      refunded: String(refunded),
      expectedRefund: String(expected),
    },
  };
}
