import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { tokenBalance } from '../../libs/chain/dist/index.js';
import { House } from '../../apps/devnet/dist/house/house.js';
import { doctorOf, submitBatch } from '../chaos/job.mjs';
import { receiptsOf } from './exit-commands.mjs';

/** Against hanging only. */
const WORK_LIMIT_MS = 120_000;
const LOOK_MS = 200;

/**
 * @import { Hex } from 'viem'
 * @import { RunningNode } from '../../apps/devnet/dist/house/house.js'
 * @import { ExitCommands } from './exit-commands.mjs'
 *
 * @typedef {{ readonly node: RunningNode; readonly home: string }} NodeHome
 * @typedef {(text: string) => void} Say
 */

/** Another operator on the same chain: a key, a database, an object store and a book of its own, all empty; the nodes join it. */
export class SecondOperator {
  #house;
  #db;
  #say;
  /** @type {Promise<void> | undefined} */
  #closing;

  /**
   * @param {House} house
   * @param {Say} say
   */
  constructor(house, say) {
    this.#house = house;
    this.#say = say;
    this.#db = new pg.Pool({ connectionString: house.databaseUrl, max: 2 });
  }

  /**
   * @param {object} where
   * @param {string} where.dataDir
   * @param {string} where.rpcUrl
   * @param {readonly RunningNode[]} where.nodes of the first market: they come with their keys and all that lies on their disks.
   * @param {Say} where.say
   */
  static async open({ dataDir, rpcUrl, nodes, say }) {
    mkdirSync(dataDir);
    const house = await House.open({ dataDir, httpPort: 0, fresh: false, say, rpcUrl });
    house.closeOnSignals();
    await house.startCoordinator();
    for (const { name, dataDir: from } of nodes) {
      cpSync(from, join(dataDir, 'nodes', name), { recursive: true });
      await house.startNode({ name, engine: 'llama-cpp', rates: { inputToken: '50000', outputToken: '100000' } });
    }
    say('a second operator is up, with an empty database');
    return new SecondOperator(house, say);
  }

  /**
   * Rebuilds the batch from what the nodes hand out and the input file, runs what is left, puts both together, settles.
   *
   * @param {object} left
   * @param {readonly NodeHome[]} left.homes
   * @param {ExitCommands} left.commands
   * @param {string} left.input
   * @param {number} left.rows
   */
  async finish({ homes, commands, input, rows }) {
    const work = join(this.#house.dataDir, 'rebuilt');
    mkdirSync(work);
    writeFileSync(join(work, 'input.jsonl'), readFileSync(input));
    for (const { node, home } of homes) {
      await commands.text('node results --job BATCH', home);
      // One file per node, under the name that the page gives to the first.
      cpSync(join(home, 'node-a.jsonl'), join(work, `${node.name}.jsonl`));
    }
    writeFileSync(join(work, 'node-a.jsonl'), homes.map(({ node }) => text(work, `${node.name}.jsonl`)).join(''));
    this.#say((await commands.text('batch rebuild', work)).trim());
    const [done, rest] = [linesOf(work, 'done.jsonl'), linesOf(work, 'rest.jsonl')];
    const batch = await submitBatch(this.#house, rest, 'rest');
    writeFileSync(join(work, 'output-of-rest.jsonl'), await this.#outputOf(batch));
    this.#say((await commands.text('batch merge', work)).trim());
    const settled = await this.#house.settle(this.#say, { refund: false });
    return this.#judge({ work, homes, rows, done, rest, settled });
  }

  /** @param {string} batch */
  async #outputOf(batch) {
    const deadline = performance.now() + WORK_LIMIT_MS;
    for (;;) {
      const { status, output_file_id: file } = await this.#batch(batch);
      if (status === 'completed') {
        const response = await this.#get(`/files/${file}/content`);
        return await response.text();
      }
      if (performance.now() > deadline || status === 'failed') throw new Error(`the rest of the batch is ${status}`);
      await sleep(LOOK_MS);
    }
  }

  /** @param {string} path */
  async #get(path) {
    const { baseURL, requester } = this.#house;
    const response = await fetch(`${baseURL}${path}`, { headers: { authorization: `Bearer ${requester.apiKey}` } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  /**
   * @param {string} id
   * @returns {Promise<import('openai').OpenAI.Batch>}
   */
  async #batch(id) {
    const response = await this.#get(`/batches/${id}`);
    return /** @type {import('openai').OpenAI.Batch} */ (await response.json());
  }

  /**
   * @param {object} end
   * @param {string} end.work
   * @param {readonly NodeHome[]} end.homes
   * @param {number} end.rows
   * @param {readonly string[]} end.done Lines, as `rest`.
   * @param {readonly string[]} end.rest
   * @param {Awaited<ReturnType<House['settle']>>} end.settled
   */
  async #judge({ work, homes, rows, done, rest, settled }) {
    /** @type {string[]} */
    const problems = [];
    const demand = (/** @type {boolean} */ holds, /** @type {string} */ what) => holds || problems.push(what);
    const ids = (/** @type {readonly string[]} */ lines) => lines.map((line) => String(JSON.parse(line).custom_id));
    const merged = linesOf(work, 'output.jsonl');
    const wanted = ids(linesOf(work, 'input.jsonl'));
    demand(JSON.stringify(ids(merged)) === JSON.stringify(wanted), `${merged.length} of ${rows} rows in order`);
    demand(
      merged.every((line) => JSON.parse(line).error === null && JSON.parse(line).response?.status_code === 200),
      'a row of the merged file has no answer',
    );
    // Paid for on the first book: the rows of its receipts, and nothing else counts as done.
    const receipts = homes
      .flatMap(({ home }) => receiptsOf(join(home, '.freehold/node')))
      // An auditor's receipt is for looking at rows, not for rows.
      .filter(({ receipt }) => receipt.kind !== 'audit');
    const paidFirst = receipts.reduce((sum, { receipt }) => sum + receipt.rows.to - receipt.rows.from, 0);
    const [{ n: paidSecond }] = /** @type {{ n: number }[]} */ (
      await this.#rows('SELECT coalesce(sum(rows), 0)::int AS n FROM receipt')
    );
    demand(done.length === paidFirst, `${done.length} rows are done, ${paidFirst} were paid for on the first book`);
    demand(paidFirst > 0 && paidSecond > 0, 'one of the operators did nothing');
    demand(paidSecond === rest.length, `the second book paid for ${paidSecond} rows of ${rest.length}`);
    demand(paidFirst + paidSecond === rows, `${paidFirst} + ${paidSecond} rows were paid for, of ${rows}`);
    const { owed, paid } = await this.#payments();
    demand(owed > 0n && owed === paid, `the second book promised ${owed} and paid ${paid}`);
    demand(settled.balanced, `the second escrow holds ${settled.escrow}, its ledger says ${settled.ledger}`);
    const doctor = await doctorOf(this.#house);
    const violations = Array.isArray(doctor.violations) ? doctor.violations : [];
    demand(doctor.checks > 0 && violations.length === 0, `doctor: ${JSON.stringify(violations)}`);
    return {
      problems,
      facts: {
        doneBefore: done.length,
        doneAfter: rest.length,
        lost: wanted.filter((id) => !ids(merged).includes(id)).length,
        paidTwice: paidFirst + paidSecond - rows,
        secondBook: { owed: String(owed), paid: String(paid) },
        doctor: { checks: doctor.checks, violations: violations.length },
      },
    };
  }

  /** In the second book's token: what its vouchers promise, and what their payees have. */
  async #payments() {
    const { rpcUrl, chain } = this.#house;
    /** @type {{ payee: Hex; net: string }[]} */
    const vouchers = await this.#rows('SELECT payee, sum(net) AS net FROM voucher GROUP BY payee');
    let [owed, paid] = [0n, 0n];
    for (const { payee, net } of vouchers) {
      owed += BigInt(net);
      paid += await tokenBalance(rpcUrl, /** @type {Hex} */ (chain.token), payee);
    }
    return { owed, paid };
  }

  /** @param {string} sql */
  async #rows(sql) {
    return (await this.#db.query(sql)).rows;
  }

  close() {
    this.#closing ??= this.#db.end().then(() => this.#house.close());
    return this.#closing;
  }
}

/**
 * @param {string} folder
 * @param {string} name
 */
function text(folder, name) {
  return readFileSync(join(folder, name), 'utf8');
}

/**
 * @param {string} folder
 * @param {string} name
 */
function linesOf(folder, name) {
  return text(folder, name)
    .split('\n')
    .filter((line) => line !== '');
}
