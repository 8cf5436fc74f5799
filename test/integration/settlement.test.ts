import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { closeDevnetOrder, openDevnetOrder, tokenBalance } from '@freehold/chain';
import { inclusionPath, isIncluded, ledger } from '@freehold/domain';
import {
  fromHex,
  issueVoucher,
  syncChain,
  VoucherPages,
  type KeptTotal,
  type PageLimits,
  type UnkeptAfter,
  type VouchersOf,
} from '@freehold/market';
import { balanceOfAccount, PgChainHistory, type Database } from '@freehold/persistence';
import { commitLeafHash } from '@freehold/protocol';
import type { Hex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { ROW_PRICE } from '../../libs/persistence/test/market-world.ts';
import { EPOCH_SECONDS, marketDatabase, SettlementBench, WINDOW_SECONDS } from './settlement-bench.ts';

const DEPOSIT = 10_000n;
const FREE = 500n;

describe('money from a requester’s wallet to the providers’ and back', () => {
  let bench: SettlementBench;
  let payer: { readonly org: string; readonly key: Hex; readonly wallet: Hex };
  let order: number;
  const nodes: string[] = [];
  const tasks: string[] = [];

  beforeAll(async () => {
    bench = await SettlementBench.start();
    await bench.history.rememberChain(await bench.escrow.identity());
    payer = await bench.selfCustodyOrg();
    for (let i = 0; i < 3; i += 1) nodes.push(await bench.world.node());
  }, 60_000);
  afterAll(() => bench.close());

  const clock = { nowMs: () => 0 };
  const pages = (limits?: PageLimits): VoucherPages => new VoucherPages({ ...bench.voucherPorts, clock }, limits);
  const of = (nodeId: string): VouchersOf => ({ nodeId, delegate: bench.sender.address });
  const resendVouchers = (node: string, has?: readonly KeptTotal[]): Promise<number> => pages().begin(node, has);

  /** The promise of every step: what the book holds on chain is what the ledger says, to the unit. */
  const equal = async (): Promise<bigint> => {
    await bench.sync();
    const facts = await bench.facts();
    expect(await bench.escrowOfLedger()).toBe(facts.escrowBalance);
    expect(facts.holdings?.tokens).toBe(facts.escrowBalance);
    return facts.escrowBalance;
  };

  it('credits a deposit to the org whose wallet opened the order', async () => {
    order = await openDevnetOrder(bench.anvil.url, payer.key, bench.devnet, {
      reserved: DEPOSIT,
      free: FREE,
      salt: `0x${'07'.repeat(32)}`,
    });
    await expect(equal()).resolves.toBe(DEPOSIT + FREE);
    await expect(bench.balance(ledger.balanceOf(payer.org))).resolves.toBe(DEPOSIT);
    expect((await bench.sync()).applied).toBe(0);
  });

  it('turns accepted work into vouchers that add up to the accepted net charges', async () => {
    const job = await bench.world.batch(300, { org: payer.org, trust: 'self-custody' });
    for (let i = 0; i < 10; i += 1) tasks.push(await bench.work(job, nodes[i % 3] ?? '', i * 30, (i + 1) * 30));
    await expect(bench.vouchersAddUp()).resolves.toBe(true);
    const charged = 300n * ROW_PRICE;
    const earned = await Promise.all(nodes.map(async (node) => bench.balance(ledger.providerOf(await payoutOf(node)))));
    const fees = await bench.balance(ledger.FEES);
    expect(earned.reduce((a, b) => a + b) + fees).toBe(charged);
    await equal();
  });

  it('signs a voucher once, saves it before it leaves, and sends it again until the node has kept it', async () => {
    bench.link.isConnected = false;
    for (const task of tasks)
      await expect(issueVoucher(bench.voucherPorts, task)).resolves.toEqual({ issued: true, told: false });
    bench.link.isConnected = true;
    const node = nodes[0] ?? '';
    await expect(resendVouchers(node)).resolves.toBe(4);
    const sent = bench.link.told.splice(0).map(({ message }) => message);
    await issueVoucher(bench.voucherPorts, tasks[0] ?? '');
    expect(bench.link.told[0]?.message).toEqual(sent[0]);
    for (const message of sent) {
      if (message.type !== 'accepted' || message.voucher === null) throw new Error(`told ${JSON.stringify(message)}`);
      const { signature, epoch, order: index, cumulative, total, ...rest } = message.voucher as Record<string, string>;
      const claim = {
        ...rest,
        epoch: BigInt(epoch ?? ''),
        order: BigInt(index ?? ''),
        cumulative: BigInt(cumulative ?? ''),
        total: BigInt(total ?? ''),
      };
      await expect(bench.signatures.recover('DelegateVoucher', claim, signature ?? '')).resolves.toBe(
        bench.sender.address,
      );
    }
    await bench.settlement.markKept('somebody else', tasks[0] ?? '');
    await expect(resendVouchers(node)).resolves.toBe(4);
    for (const task of tasks) await bench.settlement.markKept(node, task);
    await expect(resendVouchers(node)).resolves.toBe(0);
  });

  it('sends again what a node has lost by its own word, oldest first, and what it has not', async () => {
    const [node = '', other = ''] = nodes;
    for (const task of tasks) await bench.settlement.markKept(other, task);
    const totals = (
      await bench.market.database.query<{ total: string }>(
        'SELECT total::text FROM voucher WHERE node_id = $1 ORDER BY voucher.total',
        [node],
      )
    ).map(({ total }) => ({ bookEpoch: '0', total }));
    const sentAgain = async (
      ...has: readonly ({ bookEpoch: string; total: string } | undefined)[]
    ): Promise<string[]> => {
      bench.link.told.splice(0);
      await resendVouchers(
        node,
        has.flatMap((one) => one ?? []),
      );
      return bench.link.told.map(({ message }) =>
        message.type === 'accepted' ? String(message.voucher?.['total']) : message.type,
      );
    };
    const all = totals.map(({ total }) => total);
    expect(await sentAgain(totals[3])).toEqual([]);
    expect(await sentAgain(totals[1])).toEqual(all.slice(2));
    // Until it has confirmed them.
    expect(await sentAgain(totals[3])).toEqual(all.slice(2));
    for (const task of tasks) await bench.settlement.markKept(node, task);
    // Of as many epochs as a hello has room for, older ones are not said.
    expect(
      await sentAgain(...Array.from({ length: 16 }, (_, i) => ({ bookEpoch: String(9 + i), total: '1' }))),
    ).toEqual([]);
    expect(await sentAgain()).toEqual(all);
    for (const task of tasks) await bench.settlement.markKept(node, task);
    await expect(resendVouchers(other)).resolves.toBe(0);
  });

  it.each([
    ['two vouchers', { vouchers: 2, bytes: 1e6 }, [2, 2, 0, 0]],
    ['so many bytes, and never none', { vouchers: 256, bytes: 1 }, [1, 1, 1, 1]],
    ['more than there are', { vouchers: 5, bytes: 1e6 }, [4, 0, 0, 0]],
  ])(
    'sends lost vouchers a page of %s at a time, each when the last of the page before is confirmed',
    async (...args) => {
      const [, limits, expected] = args;
      const [node = ''] = nodes;
      const sending = pages(limits);
      bench.link.told.splice(0);
      const sent: string[] = [];
      const counts = [await sending.begin(node, [])];
      for (let i = 0; i < expected.length; i += 1) {
        const page = bench.link.told.splice(0).map(({ message }) => {
          if (message.type !== 'accepted') throw new Error(`told ${message.type}`);
          return { task: String(message.receipt['task']), total: String(message.voucher?.['total']) };
        });
        if (i > 0) counts.push(page.length);
        sent.push(...page.map(({ total }) => total));
        for (const { task } of page.slice(0, -1)) await sending.kept(node, task);
        expect(bench.link.told).toEqual([]);
        const last = page.at(-1);
        if (last !== undefined) await sending.kept(node, last.task);
      }
      expect(counts).toEqual(expected);
      expect(sent).toHaveLength(4);
      expect(sent).toEqual([...sent].sort((a, b) => Number(a) - Number(b)));
    },
  );

  it('takes lost vouchers back as many at a time as are asked for, and reads an epoch that no book can have', async () => {
    const [node = ''] = nodes;
    const beyond = [{ bookEpoch: '9'.repeat(78), total: '1' }];
    const lost = async (after?: UnkeptAfter): Promise<UnkeptAfter | null> =>
      bench.settlement.unkeep(of(node), beyond, 3, after);
    const third = await lost();
    const unkept = await bench.settlement.unkept(of(node), 10);
    expect(unkept).toHaveLength(3);
    expect(third).toEqual({ task: unkept[2]?.task, epoch: 0n, total: unkept[2]?.claim?.total });
    // What was confirmed meanwhile is not looked at again: only what comes after.
    for (const task of tasks) await bench.settlement.markKept(node, task);
    expect(await lost(third ?? undefined)).toBeNull();
    const [last, ...more] = await bench.settlement.unkept(of(node), 10);
    expect(more).toEqual([]);
    expect(last?.claim?.total).toBeGreaterThan(third?.total ?? 0n);
    for (const task of tasks) await bench.settlement.markKept(node, task);
  });

  it('leaves vouchers alone that another delegate signed: after a rotation a node says nothing of them to us', async () => {
    const [node = ''] = nodes;
    const other = { nodeId: node, delegate: `0x${'ab'.repeat(20)}` };
    expect(await bench.settlement.unkeep(other, [], 3)).toBeNull();
    expect(await bench.settlement.unkept(of(node), 10)).toEqual([]);
    await bench.settlement.unkeep(of(node), [], 10);
    expect(await bench.settlement.unkept(of(node), 10)).toHaveLength(4);
    expect(await bench.settlement.unkept(other, 10)).toEqual([]);
    for (const task of tasks) await bench.settlement.markKept(node, task);
  });

  it('posts the epoch after its end and pays nobody before the window has passed', async () => {
    const early = await bench.turn();
    expect(early.close).toMatchObject({ waits: expect.stringContaining('runs for') });
    await bench.passTime(EPOCH_SECONDS);
    await bench.turn();
    await bench.turn();
    expect((await bench.escrow.bookNow()).stage).toBe('posted');
    const waiting = await bench.turn();
    expect(waiting.finalise).toMatchObject({ waits: expect.stringContaining('window') });
    await equal();
  });

  it('dates the epoch’s work on chain once: a root to which every receipt of it leads', async () => {
    const anchors = await bench.anchors();
    expect(anchors).toHaveLength(1);
    const commits = await bench.settlement.commits(bench.devnet.book, 0n);
    expect(commits.map(({ task }) => task).sort()).toEqual([...tasks].sort());
    expect(anchors[0]).toEqual({ by: bench.sender.address, epoch: 0n, commits: 10n, root: expect.any(String) });
    const leaves = commits.map(({ task, leaseEpoch, root }) => commitLeafHash(task, leaseEpoch, fromHex(root)));
    for (const [i, leaf] of leaves.entries())
      expect(isIncluded(leaf, i, leaves.length, inclusionPath(leaves, i), fromHex(anchors[0]?.root ?? ''))).toBe(true);
    // An epoch without work has nothing to date; one that is open is still to be written into.
    await expect(bench.settlement.unanchored(bench.devnet.book)).resolves.toBeNull();
  });

  it('finalises and withdraws to every payout address, exactly what was earned', async () => {
    const earned = await Promise.all(nodes.map(async (node) => bench.balance(ledger.providerOf(await payoutOf(node)))));
    const fees = await bench.balance(ledger.FEES);
    await bench.passTime(WINDOW_SECONDS);
    await bench.turn();
    await expect(equal()).resolves.toBe(DEPOSIT + FREE);
    await bench.turn();
    await expect(equal()).resolves.toBe(DEPOSIT + FREE - 300n * ROW_PRICE);
    for (const [i, node] of nodes.entries()) {
      await expect(tokenBalance(bench.anvil.url, bench.devnet.token, (await payoutOf(node)) as Hex)).resolves.toBe(
        earned[i],
      );
      await expect(bench.balance(ledger.payoutOf(await payoutOf(node)))).resolves.toBe(0n);
    }
    expect(fees).toBeGreaterThan(0n);
    await expect(bench.balance(ledger.FEES)).resolves.toBe(0n);
  });

  it('sends nothing twice, however often it is turned', async () => {
    // What is on the chain needs no voucher, whoever has lost it.
    await expect(resendVouchers(nodes[0] ?? '', [])).resolves.toBe(0);
    const count = async (): Promise<number> =>
      (await bench.market.database.query('SELECT 1 FROM chain_transaction')).length;
    const before = await count();
    for (let i = 0; i < 3; i += 1) await bench.turn();
    await Promise.all([bench.turn(), bench.turn()]);
    expect(await count()).toBe(before);
  });

  it('gives the requester back exactly the rest once the order’s last epoch is final', async () => {
    await closeDevnetOrder(bench.anvil.url, payer.key, bench.devnet, order);
    await bench.sync();
    const [closing] = await bench.market.database.query<{ close_epoch: string }>(
      'SELECT close_epoch FROM chain_order WHERE order_index = $1',
      [order],
    );
    await bench.passTime(2 * EPOCH_SECONDS);
    // The chain's clock runs on while a slow machine works: the contract said which epoch is the last.
    await bench.turnUntil(BigInt(closing?.close_epoch ?? '') + 1n);
    await bench.turn();
    await bench.turn();
    await expect(tokenBalance(bench.anvil.url, bench.devnet.token, payer.wallet)).resolves.toBe(
      DEPOSIT + FREE - 300n * ROW_PRICE,
    );
    await expect(bench.balance(ledger.balanceOf(payer.org))).resolves.toBe(0n);
    await expect(equal()).resolves.toBe(0n);
    await expect(bench.doctor()).resolves.toEqual([]);
  });

  it('is read to the same state by whoever begins at block 0 with an empty database', async () => {
    const state = async (of: Database): Promise<unknown> => ({
      escrow: await balanceOfAccount(of, ledger.ESCROW),
      orders: await of.query(
        'SELECT order_index, payer, reserved, free, state, close_epoch FROM chain_order ORDER BY 1',
      ),
      payees: await of.query('SELECT payee, payee_index FROM chain_payee WHERE payee_index IS NOT NULL ORDER BY 2'),
      events: await of.query(
        'SELECT block_hash, log_index, name, args FROM chain_event WHERE NOT removed ORDER BY block_number, log_index',
      ),
    });
    const empty = await marketDatabase();
    try {
      const history = new PgChainHistory(empty.database, {
        book: bench.devnet.book,
        escrow: bench.devnet.escrow.toLowerCase(),
        operatorPayer: privateKeyToAccount(bench.operatorKey).address.toLowerCase(),
      });
      await syncChain({ escrow: bench.escrow, history, fromBlock: 0n, depth: 0n });
      expect(await state(empty.database)).toEqual(await state(bench.market.database));
    } finally {
      await empty.close();
    }
  });

  it('prints what a row cost in gas', async () => {
    const [sum] = await bench.market.database.query<{ gas: string; n: string }>(
      `SELECT sum(gas_used) AS gas, count(*) AS n FROM chain_transaction WHERE state = 'confirmed'`,
    );
    const gasPerRow = Number(sum?.gas) / 300;
    process.stdout.write(
      `settlement of 300 rows for 3 providers: ${sum?.n} transactions, ${sum?.gas} gas, ${gasPerRow.toFixed(0)} per row\n`,
    );
    expect(gasPerRow).toBeLessThan(5_000);
  });

  const payoutOf = async (node: string): Promise<string> => {
    const [row] = await bench.market.database.query<{ payout: string }>('SELECT payout FROM node WHERE id = $1', [
      node,
    ]);
    return row?.payout ?? '';
  };
});
