import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CLI = join(ROOT, 'apps/cli/dist/main.js');
/** Each run of a command does what can be done; then the chain's clock jumps to what it waits for. */
const RUNS_MAX = 8;

/**
 * @import { RunningNode } from '../../apps/devnet/dist/house/house.js'
 *
 * @typedef {object} BookAnswer What a command says of a book.
 * @property {readonly { why: string; until: string | number }[]} [waits]
 * @property {readonly { do: string }[]} [did]
 * @property {readonly unknown[]} [steps]
 * @property {{ why: string }} [refused]
 *
 * @typedef {BookAnswer & { code: number; books?: readonly BookAnswer[] }} CommandAnswer
 *
 * @typedef {object} KeptReceipt A receipt with its voucher, as it lies in a node's folder.
 * @property {{ charge: string; fee: string; payout: `0x${string}`; kind?: string; rows: { from: number; to: number } }} receipt
 * @property {unknown} voucher
 */

/** The commands of docs/operating/exit.md, word by word, with a market's words in them. */
export class ExitCommands {
  /**
   * What every run of a command that waits did, and what it waited for.
   *
   * @type {{ name: string; did: string[]; waits: string[] }[]}
   */
  runs = [];
  #commands = commandsOf(readFileSync(join(ROOT, 'docs/operating/exit.md'), 'utf8'));
  /** @type {Readonly<Record<string, string>>} */
  #words;
  #rpcUrl;
  #say;

  /**
   * @param {object} market
   * @param {string} market.rpcUrl
   * @param {Readonly<Record<string, string>>} market.words what stands for each of the page's placeholders: `{'URL': 'http://…', 'BATCH': 'batch_…', …}`.
   * @param {(text: string) => void} market.say
   */
  constructor({ rpcUrl, words, say }) {
    this.#rpcUrl = rpcUrl;
    this.#words = { URL: rpcUrl, ...words };
    this.#say = say;
  }

  /**
   * Runs a command again and again; between runs the chain's clock jumps to what the command waits for.
   *
   * @param {string} name
   * @param {string} home
   */
  async untilDone(name, home) {
    for (let i = 0; i < RUNS_MAX; i += 1) {
      const out = await this.run(name, home, null);
      const { waits = [], did = [], refused } = out.books?.[0] ?? out;
      this.runs.push({ name, did: did.map((step) => step.do), waits: waits.map(({ why }) => why.slice(0, 60)) });
      if (refused !== undefined) throw new Error(`${name} was refused: ${refused.why}`);
      if (out.code === 0) return out;
      const until = Math.max(...waits.map((wait) => Number(wait.until)));
      const block = await rpc(this.#rpcUrl, 'eth_getBlockByNumber', ['latest', false]);
      const { timestamp } = /** @type {{ timestamp: string }} */ (block);
      await rpc(this.#rpcUrl, 'evm_increaseTime', [Math.max(1, until - Number(timestamp) + 1)]);
      await rpc(this.#rpcUrl, 'anvil_mine', ['0x1']);
    }
    throw new Error(`${name} was not done after ${RUNS_MAX} runs`);
  }

  /**
   * A command's answer as JSON.
   *
   * @param {string} name
   * @param {string} cwd
   * @param {number | null} expected Its exit code; null: any.
   * @returns {Promise<CommandAnswer>}
   */
  async run(name, cwd, expected) {
    const { code, stdout, stderr } = await this.#execute(name, cwd, expected, ['--json']);
    if (!stdout.startsWith('{')) throw new Error(`${name}: ${stderr}`);
    return { code, ...JSON.parse(stdout) };
  }

  /**
   * A command's answer as text.
   *
   * @param {string} name
   * @param {string} cwd
   */
  async text(name, cwd, expected = 0) {
    return (await this.#execute(name, cwd, expected, [])).stdout;
  }

  /**
   * @param {string} name
   * @param {string} cwd
   * @param {number | null} expected
   * @param {readonly string[]} flags
   */
  async #execute(name, cwd, expected, flags) {
    const line = this.#commands.find((command) => command.startsWith(`freehold ${name}`) && isMeant(command, name));
    if (line === undefined) throw new Error(`docs/operating/exit.md has no command "freehold ${name}"`);
    // Longest first: no placeholder is a part of one that was filled in already.
    const places = Object.keys(this.#words).sort((a, b) => b.length - a.length);
    const words = places
      .reduce((text, place) => text.replace(place, this.#words[place]), line)
      .split(' ')
      .slice(1);
    /** @type {{ code: unknown; stdout: string; stderr: string }} */
    const { code, stdout, stderr } = await new Promise((resolve) =>
      execFile(
        process.execPath,
        [CLI, ...words, ...flags],
        { cwd, env: { PATH: process.env['PATH'] } },
        (error, out, err) => resolve({ code: error?.code ?? 0, stdout: out, stderr: err }),
      ),
    );
    this.#say(`freehold ${words.slice(0, 2).join(' ')}: exit code ${code}`);
    if (expected !== null && code !== expected)
      throw new Error(`${words.join(' ')}: expected exit code ${expected}, got ${code}: ${stdout}${stderr}`);
    return { code, stdout, stderr };
  }
}

/**
 * The page has a command with and without --dry-run: the name says which is meant.
 *
 * @param {string} command
 * @param {string} name
 */
function isMeant(command, name) {
  return name.includes('--dry-run') || !command.includes('--dry-run');
}

/** @param {string} page */
function commandsOf(page) {
  return [...page.matchAll(/```\n([\s\S]*?)```/g)].flatMap(([, block]) => block.trim().split('\n'));
}

/**
 * A copy of what the page says to copy of a node's folder, and nothing else of the node.
 *
 * @param {Pick<RunningNode, 'name' | 'dataDir'>} node
 * @param {string} under
 */
export function homeOf({ name, dataDir: from }, under) {
  const home = join(under, name);
  mkdirSync(join(home, '.freehold/node'), { recursive: true });
  for (const entry of ['receipts', 'node.key', 'results', 'leases'])
    cpSync(join(from, entry), join(home, '.freehold/node', entry), { recursive: true });
  return home;
}

/**
 * Receipts with vouchers that lie in a node's folder.
 *
 * @param {string} dir
 * @returns {KeptReceipt[]}
 */
export function receiptsOf(dir) {
  const folder = join(dir, 'receipts');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')))
    .filter(({ voucher }) => voucher !== null);
}

/**
 * @param {string} rpcUrl
 * @param {string} method
 * @param {readonly unknown[]} params
 */
export async function rpc(rpcUrl, method, params) {
  const response = await fetch(rpcUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const { result: answer, error } = /** @type {{ result?: unknown; error?: { message: string } }} */ (
    await response.json()
  );
  if (error !== undefined) throw new Error(`${method}: ${error.message}`);
  return answer;
}
