/**
 * The operator disappears for ever in the middle of a batch: its processes are killed, its database, objects and key deleted.
 * What is left is the chain, each node's receipts and key, and the requester's wallet. Everybody leaves by the commands of
 * docs/operating/exit.md, word by word. The last line is JSON.
 */
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { House } from '../../apps/devnet/dist/house/house.js';
import { addressOfKey } from '../../libs/chain/dist/index.js';
import { submitBatch } from '../chaos/job.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CLI = join(ROOT, 'apps/cli/dist/main.js');
const ROWS = 200;
const RECEIPTS_MIN = 2;
/** Against hanging only. */
const WORK_LIMIT_MS = 90_000;
/** Each run of a command does what can be done; then the chain's clock jumps to what it waits for. */
const RUNS_MAX = 8;

const say = (text) => process.stderr.write(`${text}\n`);
const commands = commandsOf(readFileSync(join(ROOT, 'docs/operating/exit.md'), 'utf8'));
const dataDir = mkdtempSync(join(tmpdir(), 'freehold-exit-'));
const house = await House.open({ dataDir, httpPort: 0, fresh: false, say });
house.closeOnSignals();
let result;
try {
  await house.startCoordinator();
  for (const name of ['a', 'b'])
    await house.startNode({
      name,
      engine: 'llama-cpp',
      mode: 'slow',
      rates: { inputToken: '50000', outputToken: '100000' },
      flags: ['--slow-ms', '120'],
    });
  const batch = await submitBatch(house, ROWS, 0);
  say(`batch ${batch} is submitted`);
  const nodes = [...house.nodes.values()];
  const deadline = performance.now() + WORK_LIMIT_MS;
  while (nodes.some(({ dataDir: dir }) => receiptsOf(dir).length < RECEIPTS_MIN)) {
    if (performance.now() > deadline)
      throw new Error(`after ${WORK_LIMIT_MS / 1_000} s a node has fewer than ${RECEIPTS_MIN} vouchers`);
    await sleep(100);
  }
  say(`vouchers at the nodes: ${nodes.map(({ dataDir: dir }) => receiptsOf(dir).length).join(', ')}`);
  await destroyOperator(nodes);
  result = await everybodyLeaves(nodes);
} catch (error) {
  result = { pass: false, fault: String(error?.stack ?? error) };
} finally {
  await house.close();
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });
}
console.log(JSON.stringify(result));
process.exitCode = result.pass ? 0 : 1;

/** Nothing of the operator remains; nodes stop as well, so that only what lies on their disks can help them. */
async function destroyOperator(nodes) {
  for (const name of ['scheduler', 'api', ...nodes.map(({ name }) => name)]) house.child(name).killNow();
  await house.postgres.stop('kill');
  for (const entry of ['postgres', 'objects', 'coordinator.key', 'market.json'])
    rmSync(join(dataDir, entry), { recursive: true, force: true, maxRetries: 5 });
  say('api, scheduler, database, object store and the coordinator’s key are gone');
}

async function everybodyLeaves(nodes) {
  const facts = { rows: ROWS, providers: [], runs: [] };
  let promised = 0n;
  for (const node of nodes) {
    const home = homeOf(node);
    const receipts = receiptsOf(join(home, '.freehold/node'));
    const net = receipts.reduce((sum, { receipt }) => sum + BigInt(receipt.charge) - BigInt(receipt.fee), 0n);
    const address = receipts[0].receipt.payout;
    promised += net;
    await run('receipts verify', home, 0);
    const poor = await run('node cashout --rpc URL', home, null);
    if (poor.books[0].steps?.length > 0 && !poor.books[0].refused?.why.includes(address))
      throw new Error(`a node without gas was not told what it needs: ${JSON.stringify(poor)}`);
    await rpc('anvil_setBalance', [address, '0xde0b6b3a7640000']);
    await run('node cashout --rpc URL --dry-run', home, 3);
    facts.providers.push({ home, address, receipts: receipts.length, promised: String(net) });
  }
  // The book dies once, for all of them; then everybody waits for the same notice.
  for (const { home } of facts.providers) await untilDone('node cashout --rpc URL', home, facts);
  for (const provider of facts.providers) provider.paid = String(await tokens(provider.address));
  const { walletKey } = JSON.parse(readFileSync(join(dataDir, 'requester.json'), 'utf8'));
  const deposit = 1_000_000_000n;
  const home = facts.providers[0].home;
  await untilDone('order refund', home, facts);
  const payer = addressOfKey(walletKey);
  const refunded = await tokens(payer);
  const pass =
    facts.providers.every(({ promised: due, paid }) => due === paid && BigInt(due) > 0n) &&
    refunded === deposit - promised;
  return {
    pass,
    rows: ROWS,
    providers: facts.providers.map(({ address, receipts, promised: due, paid }) => ({
      address,
      receipts,
      promised: due,
      paid,
    })),
    refunded: String(refunded),
    expectedRefund: String(deposit - promised),
    runs: facts.runs,
  };
}

/** Runs a command of the page again and again; between runs the chain's clock jumps to what the command waits for. */
async function untilDone(name, home, facts) {
  for (let i = 0; i < RUNS_MAX; i += 1) {
    const out = await run(name, home, null);
    const { waits = [], did = [], refused } = out.books?.[0] ?? out;
    facts.runs.push({ name, did: did.map((step) => step.do), waits: waits.map(({ why }) => why.slice(0, 60)) });
    if (refused !== undefined) throw new Error(`${name} was refused: ${refused.why}`);
    if (out.code === 0) return out;
    const until = Math.max(...waits.map((wait) => Number(wait.until)));
    const { timestamp } = await rpc('eth_getBlockByNumber', ['latest', false]);
    await rpc('evm_increaseTime', [Math.max(1, until - Number(timestamp) + 1)]);
    await rpc('anvil_mine', ['0x1']);
  }
  throw new Error(`${name} was not done after ${RUNS_MAX} runs`);
}

/** A command of the page with this market's words in it, as JSON. */
async function run(name, cwd, expected) {
  const line = commands.find((command) => command.startsWith(`freehold ${name}`) && matches(command, name));
  if (line === undefined) throw new Error(`docs/operating/exit.md has no command "freehold ${name}"`);
  const { chainId, escrow, book } = house.chain;
  const { order } = JSON.parse(readFileSync(join(dataDir, 'requester.json'), 'utf8'));
  const words = line
    .replace('URL', house.rpcUrl)
    .replace('--chain ID', `--chain ${chainId}`)
    .replace('--escrow 0x…', `--escrow ${escrow}`)
    .replace('--book 0x…', `--book ${book}`)
    .replace('--order N', `--order ${order}`)
    .replace('PAYER.key', join(dataDir, 'requester.json'))
    .split(' ')
    .slice(1);
  const { code, stdout, stderr } = await new Promise((resolve) =>
    execFile(process.execPath, [CLI, ...words, '--json'], { cwd, env: { PATH: process.env.PATH } }, (error, out, err) =>
      resolve({ code: error?.code ?? 0, stdout: out, stderr: err }),
    ),
  );
  say(`freehold ${words.slice(0, 2).join(' ')}: exit code ${code}`);
  if (expected !== null && code !== expected)
    throw new Error(`${words.join(' ')}: expected exit code ${expected}, got ${code}: ${stdout}${stderr}`);
  if (!stdout.startsWith('{')) throw new Error(`${words.join(' ')}: ${stderr}`);
  return { code, ...JSON.parse(stdout) };
}

/** The page has a command with and without --dry-run: the name says which is meant. */
function matches(command, name) {
  return name.includes('--dry-run') || !command.includes('--dry-run');
}

/** The page says: copy `receipts/` and `node.key`. Nothing else of the node is used. */
function homeOf({ name, dataDir: from }) {
  const home = join(dataDir, 'homes', name);
  mkdirSync(join(home, '.freehold/node'), { recursive: true });
  for (const entry of ['receipts', 'node.key'])
    cpSync(join(from, entry), join(home, '.freehold/node', entry), { recursive: true });
  return home;
}

function receiptsOf(dir) {
  const folder = join(dir, 'receipts');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')))
    .filter(({ voucher }) => voucher !== null);
}

function commandsOf(page) {
  return [...page.matchAll(/```\n([\s\S]*?)```/g)].flatMap(([, block]) => block.trim().split('\n'));
}

async function rpc(method, params) {
  const response = await fetch(house.rpcUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const { result: answer, error } = await response.json();
  if (error !== undefined) throw new Error(`${method}: ${error.message}`);
  return answer;
}

/** ERC-20 balanceOf. */
async function tokens(address) {
  const data = `0x70a08231${address.slice(2).toLowerCase().padStart(64, '0')}`;
  return BigInt(await rpc('eth_call', [{ to: house.chain.token, data }, 'latest']));
}
