import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  closeDevnetOrder,
  EscrowClient,
  openDevnetOrder,
  RpcEndpoints,
  tokenBalance,
  WorkLogCalls,
} from '@freehold/chain';
import { ledger } from '@freehold/domain';
import {
  guardPayouts,
  issueVoucher,
  VoucherPages,
  runLease,
  settleBook,
  syncChain,
  verifyResult,
  type Auditors,
  type LeaseView,
} from '@freehold/market';
import {
  PgChainTransactions,
  PgLeaseStore,
  PgOutbox,
  PgSettlementStore,
  post,
  type Database,
  type Sql,
} from '@freehold/persistence';
import { DiskObjectStore } from '@freehold/storage';
import { Failpoints } from '@freehold/wiring/failpoints';
import { createTestClient, http, type Hex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { awaitsIn } from './awaits.ts';
import { answer, auditor, commit, deliver, panel, playedLease, ROWS, type Play } from './played-lease.ts';
import { EPOCH_SECONDS, newKey, SettlementBench, WINDOW_SECONDS } from './settlement-bench.ts';

const USE_CASES = [
  'run-lease',
  'verify-result',
  'audit-rows',
  'committed-rows',
  'test-row',
  'issue-voucher',
  'sync-chain',
  'settle-book',
  'close-epoch',
  'anchor-epoch',
  'post-epoch',
  'finalise-epoch',
  'withdraw-payouts',
  'refund-orders',
  'guard-payouts',
  'settlement-step',
].map((name) => `libs/market/src/${name}.ts`);
const SENDER = ['libs/chain/src/rpc-chain-sender.ts', 'libs/chain/src/gas.ts'];
const CHECKPOINT_ROWS = 5;
/** A walk that dies more often than there are points goes in a circle. */
const LIVES_MAX = 400;
const signal = new AbortController().signal;

/** What a killed process would have said. */
class Death extends Error {}

/** One life of a process: it ends at the first point that it is told to die at, and does nothing any more after that. */
class Life {
  diedAt: string | null = null;
  readonly points: Failpoints;

  constructor(diesAt: (point: string) => boolean) {
    this.points = new Failpoints((point) => {
      if (this.diedAt === null && diesAt(point)) this.diedAt = point;
      if (this.diedAt !== null) throw new Death(this.diedAt);
    });
  }

  /** @returns where it died; null when it lived to its end. */
  async of(work: () => Promise<unknown>): Promise<string | null> {
    try {
      await work();
    } catch (error) {
      if (this.diedAt === null) throw error;
    }
    return this.diedAt;
  }

  /** The database as this process has it: a point before and after every statement and every transaction. */
  database(real: Database): Database {
    const { points } = this;
    const guarded = points.around('Database', real);
    // Statements outside of a transaction are named as well: what falls apart into several must not hide behind one name.
    const statements = statementsOf(points, real);
    const transaction = (work: (tx: Sql) => Promise<unknown>, options: never): Promise<unknown> =>
      guarded.transaction((tx) => work(statementsOf(points, tx)), options);
    return new Proxy(guarded, {
      get: (target, member) =>
        member === 'query'
          ? (...asked: Parameters<Sql['query']>) => statements.query(...asked)
          : member === 'transaction'
            ? transaction
            : (Reflect.get(target, member, target) as unknown),
    });
  }
}

function statementsOf(points: Failpoints, tx: Sql): Sql {
  return {
    query: async (sql, params) => {
      const name = sql.replaceAll(/\s+/g, ' ').trim().slice(0, 60);
      points.pass(`SQL ${name}:before`);
      const rows = await tx.query<never>(sql, params);
      points.pass(`SQL ${name}:after`);
      return rows;
    },
  };
}

class WatchedRpc extends RpcEndpoints {
  readonly #points: Failpoints;
  constructor(url: string, points: Failpoints) {
    super([url]);
    this.#points = points;
  }
  override async request(method: string, params: readonly unknown[]): Promise<unknown> {
    this.#points.pass(`Rpc.${method}:before`);
    const result = await super.request(method, params);
    this.#points.pass(`Rpc.${method}:after`);
    return result;
  }
}

/** Every point at which some process died. */
const walked = new Set<string>();
const atUnwalked = (): Life =>
  new Life((point) => {
    if (walked.has(point)) return false;
    walked.add(point);
    return true;
  });
const immortal = (): Life => new Life(() => false);

/** A node with a journal: what it has done before a cut, it has after it. A checkpoint on the way, and one at the end. */
function steadyNode(): Play {
  const journal: { readonly row: Parameters<Play>[0][number]; readonly output: ReturnType<typeof answer> }[] = [];
  return async (rows, grant, sink, key) => {
    for (const row of rows) journal[row.index] ??= { row, output: answer(row) };
    const from = rows[0]?.index ?? ROWS;
    const send = async (start: number, end: number): Promise<boolean> => {
      await sink.results(journal.slice(start, end).map(({ row, output }) => ({ index: row.index, output })));
      const outputs = journal.map(({ output }) => output);
      return commit(
        journal.map(({ row }) => row),
        outputs,
        grant,
        sink,
        key,
        end,
      );
    };
    if (from < CHECKPOINT_ROWS) await send(from, CHECKPOINT_ROWS);
    await send(Math.max(from, CHECKPOINT_ROWS), ROWS);
    return { end: 'committed' };
  };
}

/** A node whose owner wants the slot back after the first checkpoint: what it has committed to is paid, the rest is new work. */
const yieldingNode: Play = async (rows, grant, sink, key) => {
  if (rows[0]?.index !== 0) return { end: 'yielded' };
  const outputs = rows.map((row) => answer(row));
  const done = rows
    .slice(0, CHECKPOINT_ROWS)
    .map((row, i) => ({ index: row.index, output: outputs[i] ?? answer(row) }));
  await sink.results(done);
  await commit(rows, outputs, grant, sink, key, CHECKPOINT_ROWS);
  return { end: 'yielded' };
};

let bench: SettlementBench;
let objects: DiskObjectStore;
let dir: string;
let payer: Awaited<ReturnType<SettlementBench['selfCustodyOrg']>>;
let order: number;
/** All nodes of these scenes are one operator's. Lower case. */
const payout = privateKeyToAccount(newKey()).address.toLowerCase() as Hex;

beforeAll(async () => {
  bench = await SettlementBench.start();
  dir = mkdtempSync(join(tmpdir(), 'freehold-failpoints-'));
  objects = new DiskObjectStore(dir, 'test');
  payer = await bench.selfCustodyOrg();
  order = await openDevnetOrder(bench.anvil.url, payer.key, bench.devnet, {
    reserved: 1_000_000n,
    free: 0n,
    salt: newKey(),
  });
  await bench.sync();
}, 60_000);
afterAll(async () => {
  await bench.close();
  rmSync(dir, { recursive: true, force: true });
});

type Scene = Awaited<ReturnType<typeof playedLease>>;
const scene = (play: Play, auditors: Auditors): Promise<Scene> =>
  playedLease(
    { world: bench.world, objects },
    play,
    auditors,
    { org: payer.org, trust: 'self-custody', cap: 1_000n },
    payout,
  );

/** What a scheduler does with a lease, from wherever the last one left it: its queue asks again until it is done. */
async function workOn({ lease, link, ports }: Scene, life: Life): Promise<void> {
  const around = life.points.around.bind(life.points);
  const database = life.database(bench.market.database);
  const guarded = {
    ...ports,
    leases: around('LeaseStore', new PgLeaseStore(database)),
    objects: around('ObjectStore', objects),
    link: around('ProviderLink', link),
    signer: around('Signer', ports.signer),
    signatures: around('SignatureCheck', ports.signatures),
    blocks: around('Blocks', ports.blocks),
    auditors: around('Auditors', {
      anyFor: (lease: LeaseView) => ports.auditors.anyFor(lease),
      look: () => ports.auditors.look(),
      next: async (...asked: Parameters<Auditors['next']>) => {
        const auditor = await ports.auditors.next(...asked);
        return auditor === null ? null : around('Auditor', auditor);
      },
    }),
  };
  const view = await bench.world.store.view(lease);
  const isOpen = view !== null && view.taskEpoch === lease.epoch && ['leased', 'running'].includes(view.state);
  if (isOpen && !view.committed) await runLease(guarded, lease, signal);
  await verifyResult(guarded, lease, signal);
  const settlement = around('SettlementStore', new PgSettlementStore(database));
  const telling = { settlement, signer: guarded.signer, link: guarded.link };
  await issueVoucher(telling, lease.task);
  // A node that has nothing of what it confirmed.
  await new VoucherPages({ ...telling, clock: { nowMs: () => 0 } }).begin(lease.nodeId, []);
}

/** Dies once at every point where nobody died yet, each time with a new lease; a second life finishes it, a third finds nothing to do. */
async function walk(make: () => Promise<Scene>, judge: (scene: Scene) => Promise<void>): Promise<number> {
  for (let lives = 0; lives < LIVES_MAX; lives += 1) {
    const one = await make();
    const life = atUnwalked();
    const died = await life.of(() => workOn(one, life));
    await workOn(one, immortal());
    await workOn(one, immortal());
    await judge(one);
    await hearMessages();
    if (died === null) return lives;
  }
  throw new Error(`still dying after ${LIVES_MAX} lives`);
}

/** The queue is played here: what acceptance left for it has been done above. */
async function hearMessages(): Promise<void> {
  const outbox = new PgOutbox(bench.market.database);
  const heard: string[] = [];
  await outbox.relay(1_000, (_topic, messages) => {
    heard.push(...messages.map(({ outboxId }) => outboxId));
    return Promise.resolve();
  });
  await outbox.done(heard);
}

async function moneyOf({ lease }: Scene) {
  const count = async (sql: string): Promise<number> =>
    Number((await bench.market.database.query<{ n: string }>(sql, [lease.task]))[0]?.n);
  return {
    receipts: await count('SELECT count(*) AS n FROM receipt WHERE task_id = $1'),
    charges: await count(`SELECT count(*) AS n FROM ledger_transaction WHERE kind = 'charge' AND ref = $1::text`),
    vouchers: await count('SELECT count(*) AS n FROM voucher WHERE task_id = $1 AND signature IS NOT NULL'),
  };
}

/** All rows once, one receipt, one charge, and one and the same voucher however often it was told. */
async function paidOnce(one: Scene): Promise<void> {
  expect(await bench.world.rowStates(one.jobId)).toEqual({ succeeded: ROWS });
  expect(await moneyOf(one)).toEqual({ receipts: 1, charges: 1, vouchers: 1 });
  const signatures = one.link.told.flatMap((message) =>
    message.type === 'accepted' ? [message.voucher?.['signature']] : [],
  );
  expect(signatures.length).toBeGreaterThan(0);
  expect(new Set(signatures).size).toBe(1);
}

async function firstRowsPaidOnce(one: Scene): Promise<void> {
  expect(await bench.world.rowStates(one.jobId)).toEqual({
    succeeded: CHECKPOINT_ROWS,
    pending: ROWS - CHECKPOINT_ROWS,
  });
  expect(await moneyOf(one)).toEqual({ receipts: 1, charges: 1, vouchers: 1 });
}

async function unpaid(one: Scene): Promise<void> {
  expect(await bench.world.rowStates(one.jobId)).toEqual({ pending: ROWS });
  expect(await moneyOf(one)).toEqual({ receipts: 0, charges: 0, vouchers: 0 });
}

describe('a scheduler that dies', () => {
  it('between any two steps of delivery, verification and acceptance pays for every row once', async () => {
    const deaths = await walk(() => scene(steadyNode(), panel(auditor('other', 'node'))), paidOnce);
    process.stdout.write(`died at ${deaths} points of acceptance\n`);
    expect(deaths).toBeGreaterThan(50);
    await walk(() => scene(steadyNode(), panel()), paidOnce);
    await walk(() => scene(yieldingNode, panel(auditor('other', 'node'))), firstRowsPaidOnce);
    const overruled = panel(auditor('liar', 'node', 'accuses'), auditor('coordinator', 'coordinator'));
    await walk(() => scene(steadyNode(), overruled), paidOnce);
    await expect(bench.doctor()).resolves.toEqual([]);
    await expect(bench.vouchersAddUp()).resolves.toBe(true);
  }, 240_000);

  it('between any two steps of a rejection or a refusal pays for nothing', async () => {
    await walk(() => scene(deliver([7]), panel(auditor('other', 'node'), auditor('third', 'node'))), unpaid);
    await walk(
      () => scene(() => Promise.resolve({ end: 'refused', code: 'BUSY', message: 'no slot' }), panel()),
      unpaid,
    );
    await expect(bench.doctor()).resolves.toEqual([]);
  }, 120_000);

  it('between any two steps of settlement posts, finalises, pays and refunds once', async () => {
    const earned = await bench.balance(ledger.providerOf(payout));
    expect(earned).toBeGreaterThan(0n);
    await bench.passTime(EPOCH_SECONDS);
    await settleDying();
    await bench.passTime(WINDOW_SECONDS);
    await settleWithoutBlocks();
    await settleDying();
    await bench.reorg(1);
    await settleDying();
    await expect(tokenBalance(bench.anvil.url, bench.devnet.token, payout)).resolves.toBe(earned);

    // A unit too much in the books halts payouts; once it is gone they go on.
    const slip = ledger.checked({
      kind: 'deposit',
      ref: 'slip',
      asset: ledger.MONEY,
      postings: [
        { ...ledger.ESCROW, amount: -1n },
        { ...ledger.OPERATOR, amount: 1n },
      ],
    });
    await bench.market.database.transaction((tx) => post(tx, [slip]));
    await settleDying();
    await expect(bench.gate.state()).resolves.toMatchObject({ halted: { by: 'reconciler' } });
    await bench.market.database.transaction((tx) => post(tx, [ledger.reversal(slip, 'slip')]));
    await settleDying();
    await expect(bench.gate.state()).resolves.toMatchObject({ halted: null });

    await closeDevnetOrder(bench.anvil.url, payer.key, bench.devnet, order);
    await settleDying();
    for (let i = 0; i < 3; i += 1) {
      await bench.passTime(EPOCH_SECONDS);
      await settleDying();
      await bench.passTime(WINDOW_SECONDS);
      await settleDying();
    }
    await expect(tokenBalance(bench.anvil.url, bench.devnet.token, payout)).resolves.toBe(earned);
    await expect(bench.balance(ledger.balanceOf(payer.org))).resolves.toBe(0n);
    const events = await bench.escrow.events(bench.devnet.fromBlock, (await bench.escrow.head()).number);
    const times = (name: string): number => events.filter((event) => event.name === name).length;
    const { next, stage } = await bench.escrow.bookNow();
    expect({ posted: times('EpochPosted'), final: times('EpochFinal'), refunded: times('OrderRefunded') }).toEqual({
      // The chain's clock goes on by itself as well: one more epoch may have ended meanwhile.
      posted: Number(next) + (stage === 'posted' ? 1 : 0),
      final: Number(next),
      refunded: 1,
    });
    await expect(bench.doctor()).resolves.toEqual([]);
  }, 240_000);

  it('has died before and after every call that these steps wait for', () => {
    const { ports, strangers } = awaitsIn([...USE_CASES, ...SENDER]);
    expect(strangers).toEqual([]);
    const points = ports.flatMap((port) => [`${port}:before`, `${port}:after`]);
    expect(points.filter((point) => !isWalked(point) && !ofFineTunes(point))).toEqual([]);
  });
});

/** These leases are batches of rows; a fine-tune's notes beside them (its events, its curve) are no part of what is paid. */
function ofFineTunes(point: string): boolean {
  return /^(FineTunes|Training)\./.test(point);
}

function isWalked(point: string): boolean {
  return point.startsWith('Rpc:') ? [...walked].some((one) => /^Rpc\.\w+:/.test(one)) : walked.has(point);
}

/** Turns of a scheduler that dies in each, until one has nothing left to die at and nothing left to send. */
async function settleDying(): Promise<void> {
  for (let lives = 0; lives < LIVES_MAX; lives += 1) {
    const sentBefore = await bench.transactions.nextNonce(bench.sender.address);
    const life = atUnwalked();
    const died = await life.of(() => turn(life));
    const isMined = (await bench.transactions.open(bench.sender.address)).length === 0;
    if (died === null && isMined && (await bench.transactions.nextNonce(bench.sender.address)) === sentBefore) return;
  }
  throw new Error(`still dying after ${LIVES_MAX} turns`);
}

/** While no block comes, every turn raises the fee of what waits; whichever is mined at last counts once. */
async function settleWithoutBlocks(): Promise<void> {
  const chain = createTestClient({ mode: 'anvil', transport: http(bench.anvil.url) });
  await chain.setAutomine(false);
  for (let lives = 0; lives < LIVES_MAX; lives += 1) {
    const life = atUnwalked();
    if ((await life.of(() => turn(life, 0))) === null && walked.has('ChainTransactions.replace:after')) break;
  }
  await chain.mine({ blocks: 1 });
  await chain.setAutomine(true);
}

/** As the scheduler of a new process makes it: read, follow what was sent, do what is next. */
async function turn({ points }: Life, replaceAfterMs = 60_000): Promise<void> {
  const database = bench.market.database;
  const rpcUrl = new WatchedRpc(bench.anvil.url, points);
  const { escrow: address, book } = bench.devnet;
  const workLog = new WorkLogCalls(bench.devnet.workLog);
  const escrow = points.around('Escrow', new EscrowClient({ rpcUrl, escrow: address, book }));
  const history = points.around('ChainHistory', bench.history);
  const settlement = points.around('SettlementStore', new PgSettlementStore(database));
  const transactions = points.around('ChainTransactions', new PgChainTransactions(database));
  const sender = points.around('ChainSender', bench.newSender({ rpcUrl, transactions, replaceAfterMs }));
  const reading = { ...bench.syncPorts, escrow, history };
  await syncChain(reading);
  await sender.tick();
  const gate = points.around('PayoutGate', bench.gate);
  const payoutsHalted = async (): Promise<string | null> => (await guardPayouts({ escrow, gate })).halted;
  await settleBook({ escrow, sender, settlement, workLog, payoutsHalted, payoutMin: 1n });
  await sender.tick();
  await syncChain(reading);
}
