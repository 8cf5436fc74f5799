import { existsSync, lstatSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { identityOf } from '@freehold/wiring/node';
import {
  CHAT_WORK,
  CheckingSink,
  DOMAIN,
  eventually,
  NEVER,
  QUESTION,
  newFolder,
  removeFolders,
  newKey,
  rowInputs,
  startedNode,
  TestMarket,
  TinyEngine,
  type Logged,
} from './market.fixture.ts';
import { exportResults } from './exit/rebuild.ts';
import { keptResults } from './journal.ts';
import { UnreadableFileError } from './kept-json.ts';
import type { ProviderNode, ProviderNodeParts } from './provider-node.ts';

describe('a node in a market', () => {
  const nodeKey = newKey();
  const { peerId, address } = identityOf(nodeKey);
  let market: TestMarket;
  let engine: TinyEngine;
  let node: ProviderNode | null;
  let dataDir: string;
  let logs: Logged[];

  const start = async (change: Partial<ProviderNodeParts> = {}): Promise<void> => {
    node = await startedNode(market, engine, { privateKeyHex: nodeKey, dataDir, logs, ...change });
    await eventually('the node is welcomed', () => market.link.nodes().length === 1);
  };
  const run = async (grant: ReturnType<TestMarket['grant']>, sink: CheckingSink) =>
    await market.link.runLease(grant, sink.durable, rowInputs(sink.durable, grant.rows), sink, NEVER);

  beforeEach(async () => {
    node = null;
    logs = [];
    dataDir = await newFolder();
    engine = new TinyEngine();
    market = new TestMarket();
    await market.open();
  });

  afterAll(removeFolders);
  afterEach(async () => {
    await node?.stop(0);
    await market.close();
  });

  it('signs a checkpoint every 64 rows and commits to all of them', async () => {
    await start();
    const grant = market.grant(peerId, 150);
    const sink = new CheckingSink(market, grant, address);
    await expect(run(grant, sink)).resolves.toEqual({ end: 'committed' });
    expect(sink.faults).toEqual([]);
    // On a slow machine two seconds pass earlier than 64 rows do.
    const gaps = sink.checkpoints.map(({ n }, i) => n - (sink.checkpoints[i - 1]?.n ?? 0));
    expect(Math.max(...gaps)).toBeLessThanOrEqual(64);
    expect(sink.checkpoints.at(-1)).toMatchObject({ n: 150, last: true });
  });

  it('keeps countersignature, receipt and voucher on the disk before it says so, then wipes the inputs and keeps the results for a day', async () => {
    await start();
    const grant = market.grant(peerId, 10);
    await run(grant, new CheckingSink(market, grant, address));
    market.link.tell(peerId, {
      type: 'countersigned',
      lease: { task: grant.task, epoch: 1 },
      root: `0x${'ab'.repeat(32)}`,
      height: '7',
      signature: `0x${'00'.repeat(65)}`,
    });
    await eventually('the countersignature is kept', () =>
      existsSync(join(dataDir, 'commits', `${grant.task}.1.json`)),
    );
    // With what was promised when the lease was signed: nothing yet.
    const note = readFileSync(join(dataDir, 'commits', `${grant.task}.1.json`), 'utf8');
    expect(JSON.parse(note)).toMatchObject({ type: 'countersigned', totals: {} });
    expect(readdirSync(join(dataDir, 'leases'))).toEqual([`${grant.task}.1`]);
    market.link.tell(peerId, await acceptance(grant.task, { charge: 30n, fee: 1n, cumulative: 29n, total: 29n }));
    await eventually('the node says it is kept', () => market.events.kepts.includes(grant.task));
    expect(JSON.parse(readFileSync(join(dataDir, 'receipts', `${grant.task}.json`), 'utf8'))).toMatchObject({
      voucher: { total: '29' },
    });
    const results = join(dataDir, 'results');
    await eventually('the payloads are gone', () => readdirSync(join(dataDir, 'leases')).length === 0);
    await eventually('the results are kept', () => readdirSync(results).length === 1);
    expect(readdirSync(join(results, `${grant.task}.1`)).sort()).toEqual(['lease.json', 'results.jsonl']);
    expect(await keptResults(join(results, `${grant.task}.1`))).toHaveLength(10);
    await node?.stop(0);
    utimesSync(join(results, `${grant.task}.1`), 0, Date.now() / 1_000 - 90_000);
    await start();
    expect(readdirSync(results)).toEqual([]);
    expect(logs.filter(({ event }) => event === 'charge-differs')).toEqual([]);
  });

  it('keeps the old voucher when a new one does not rise by exactly what was earned', async () => {
    await start();
    const tasks = ['1', '2'].map((digit) => `${digit.repeat(8)}-0000-4000-8000-000000000000`);
    market.link.tell(peerId, await acceptance(tasks[0] ?? '', { charge: 30n, fee: 1n, cumulative: 29n, total: 29n }));
    await eventually('the first is kept', () => market.events.kepts.length === 1);
    market.link.tell(peerId, await acceptance(tasks[1] ?? '', { charge: 30n, fee: 1n, cumulative: 57n, total: 57n }));
    await eventually('the second is refused', () =>
      logs.some(({ event, detail }) => event === 'voucher-refused' && detail['code'] === 'VOUCHER_RISE'),
    );
    expect(market.events.kepts).toEqual([tasks[0]]);
    expect(existsSync(join(dataDir, 'receipts', `${tasks[1]}.json`))).toBe(false);
    await market.reopen();
    await eventually('the node comes back', () => market.events.vouchers.length === 2);
    expect(market.events.vouchers[1]).toEqual([{ bookEpoch: '3', total: '29' }]);
  });

  it('is not cut off for confirming at once what waited for a voucher since an earlier session', async () => {
    await start();
    const count = 130;
    const nth = async (n: number) =>
      await acceptance(`00000000-0000-4000-8000-${String(n).padStart(12, '0')}`, {
        ...{ charge: 10n, fee: 0n, cumulative: BigInt(10 * n), total: BigInt(10 * n) },
      });
    for (let n = 2; n <= count; n += 1) market.link.tell(peerId, await nth(n));
    await eventually('all wait', () => logs.filter(({ event }) => event === 'voucher-refused').length === count - 1);
    await market.reopen({ controlBurst: 110 });
    await eventually('the node comes back', () => market.link.nodes().length === 1);
    market.link.tell(peerId, await nth(1));
    await eventually(
      'all are confirmed',
      () => market.events.kepts.length === count || market.link.nodes().length === 0,
    );
    expect([market.link.nodes().length, new Set(market.events.kepts).size]).toEqual([1, count]);
  });

  it('refuses a voucher that somebody else signed', async () => {
    await start();
    const forged = await acceptance('33333333-0000-4000-8000-000000000000', {
      charge: 9n,
      fee: 0n,
      cumulative: 9n,
      total: 9n,
    });
    if (forged.type !== 'accepted' || forged.voucher === null) throw new Error('unexpected');
    market.link.tell(peerId, { ...forged, voucher: { ...forged.voucher, orderParams: `0x${'99'.repeat(8)}` } });
    await eventually('it is refused', () =>
      logs.some(({ event, detail }) => event === 'voucher-refused' && detail['code'] === 'VOUCHER_FORGED'),
    );
  });

  it('works on while the coordinator is away, and goes on from the last checkpoint with the same rows', async () => {
    engine.rowMs = 10;
    await start();
    const grant = market.grant(peerId, 120);
    const first = new CheckingSink(market, grant, address);
    const away: Promise<void>[] = [];
    first.onResults = (done) => {
      if (done >= 70 && away.length === 0) away.push(market.reopen());
    };
    expect((await run(grant, first)).end).toBe('cut');
    await Promise.all(away);
    await eventually('the node presents the lease again', () => (market.events.held.at(-1)?.length ?? 0) === 1);
    expect(market.events.held.at(-1)?.[0]).toMatchObject({ task: grant.task, nonce: grant.nonce, committed: false });
    await eventually('it is back', () => market.link.nodes().length === 1);
    const second = new CheckingSink(market, grant, address, first);
    await expect(run(grant, second)).resolves.toEqual({
      end: 'committed',
    });
    expect(second.faults).toEqual([]);
    expect(first.durable).toBeGreaterThan(0);
    // Every row was run once: what came after the checkpoint was sent again from the journal.
    expect(engine.began).toBe(120);
  });

  it('takes other work while leases that it holds get no more inputs from a coordinator that went away', async () => {
    await start();
    async function* threeRows(): AsyncGenerator<Awaited<ReturnType<ReturnType<typeof rowInputs>['next']>>['value']> {
      yield* rowInputs(0, 3);
      await new Promise(() => undefined);
    }
    const seats = Array.from({ length: 4 }, () => market.grant(peerId, 200));
    const cut = seats.map((grant) =>
      market.link.runLease(grant, 0, threeRows(), new CheckingSink(market, grant, address), NEVER),
    );
    const done = (): unknown[] => ((node?.status()['leases'] ?? []) as { done: number }[]).map((lease) => lease.done);
    await eventually('all have run what they got', () => done().join() === '3,3,3,3');
    const third = market.grant(peerId, 5);
    await expect(run(third, new CheckingSink(market, third, address))).resolves.toMatchObject({ code: 'NODE_BUSY' });
    await market.reopen();
    await Promise.all(cut);
    await eventually('it is back', () => market.link.nodes().length === 1);
    const fourth = market.grant(peerId, 5);
    await expect(run(fourth, new CheckingSink(market, fourth, address))).resolves.toEqual({ end: 'committed' });
    // What it holds for the other is still there, should it come back.
    expect(done().slice(0, 4)).toEqual([3, 3, 3, 3]);
  });

  it('drops a lease that the welcome does not name any more: its inputs go, its results may be paid for yet', async () => {
    engine.rowMs = 20;
    await start();
    const grant = market.grant(peerId, 200);
    const sink = new CheckingSink(market, grant, address);
    market.events.resume = () => false;
    sink.onResults = (done) => (done === 4 ? void market.reopen() : undefined);
    expect((await run(grant, sink)).end).toBe('cut');
    await eventually('the lease is dropped', () => readdirSync(join(dataDir, 'leases')).length === 0);
    expect(node?.status()['leases']).toEqual([]);
    const kept = join(dataDir, 'results', `${grant.task}.1`);
    expect(readdirSync(kept).sort()).toEqual(['lease.json', 'results.jsonl']);
    expect((await keptResults(kept))?.slice(0, 4)).toEqual([0, 1, 2, 3].map((index) => sink.outputs.get(index)));
  });

  it('keeps nothing of a lease that was rejected', async () => {
    await start();
    const grant = market.grant(peerId, 5);
    await run(grant, new CheckingSink(market, grant, address));
    market.link.tell(peerId, { type: 'rejected', lease: { task: grant.task, epoch: 1 }, why: 'two rows were wrong' });
    await eventually('the lease is gone', () => readdirSync(join(dataDir, 'leases')).length === 0);
    expect(readdirSync(join(dataDir, 'results'))).toEqual([]);
  });

  /** What `node results` hands out of one job. */
  async function handedOut(job: string): Promise<readonly { rows: number; task: string }[]> {
    const file = join(dataDir, 'handed-out.jsonl');
    await exportResults(dataDir, job, file, () => undefined);
    const lines = readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
    return lines.map((line) => {
      const { kept, outputs } = JSON.parse(line) as { kept: { receipt: { task: string } }; outputs: unknown[] };
      return { rows: outputs.length, task: kept.receipt.task };
    });
  }

  const PAID = { charge: 30n, fee: 1n, cumulative: 29n, total: 29n };

  it.each([
    ['was taken back as stale before its voucher came', 'drop'],
    ['was handed back by its owner before its voucher came', 'yield'],
    ['was not in the welcome after a restart', 'restart'],
    ['was found again without its model', 'other-model'],
  ])('hands out the results of a paid lease that %s', async (_what, how) => {
    engine.rowMs = how === 'yield' ? 30 : 0;
    await start();
    const grant = market.grant(peerId, how === 'yield' ? 500 : 6);
    const sink = new CheckingSink(market, grant, address);
    const lease = run(grant, sink);
    if (how === 'yield') {
      await eventually('rows come', () => sink.outputs.size >= 3);
      await node?.stop(200);
      await start();
    }
    await lease;
    if (how === 'drop') {
      market.link.tell(peerId, { type: 'drop', lease: { task: grant.task, epoch: 1 }, why: 'not yours any more' });
      await eventually('it is dropped', () => logs.some(({ event }) => event === 'lease-dropped'));
    }
    if (how === 'restart' || how === 'other-model') {
      market.events.resume = () => false;
      await node?.stop(0);
      if (how === 'other-model') engine.digest = 'declared:newer';
      await start();
      await eventually('it is not held any more', () => readdirSync(join(dataDir, 'leases')).length === 0);
    }
    expect(sink.faults).toEqual([]);
    market.link.tell(peerId, await acceptance(grant.task, PAID, { job: 'batch_1', rows: sink.durable }));
    await eventually('the voucher is kept', () => market.events.kepts.includes(grant.task));
    expect(await handedOut('batch_1')).toEqual([{ rows: sink.durable, task: grant.task }]);
    expect(await handedOut('batch_2')).toEqual([]);
  });

  it('keeps no voucher before what it pays for is kept, and hands out what a killed node had not moved yet', async () => {
    await start();
    const grant = market.grant(peerId, 6);
    const sink = new CheckingSink(market, grant, address);
    await run(grant, sink);
    const [made, results] = [join(dataDir, 'leases', `${grant.task}.1`), join(dataDir, 'results')];
    const receipt = join(dataDir, 'receipts', `${grant.task}.json`);
    let movedFirst: boolean | null = null;
    const watch = setInterval(() => {
      if (movedFirst === null && existsSync(receipt)) movedFirst = existsSync(join(results, `${grant.task}.1`));
    }, 0);
    market.link.tell(peerId, await acceptance(grant.task, PAID, { job: 'batch_1', rows: 6 }));
    await eventually('the voucher is kept', () => market.events.kepts.includes(grant.task));
    clearInterval(watch);
    expect(movedFirst).not.toBe(false);
    await node?.stop(0);
    // As an older node left it that was killed between its voucher and its tidying.
    renameSync(join(results, `${grant.task}.1`), made);
    expect(await handedOut('batch_1')).toEqual([{ rows: 6, task: grant.task }]);
    market.events.resume = () => false;
    await start();
    await eventually('the welcome has come', () => readdirSync(join(dataDir, 'leases')).length === 0);
    expect(await handedOut('batch_1')).toEqual([{ rows: 6, task: grant.task }]);
  });

  it.each([
    ['another model', { model: 'elsewhere' }, 'MODEL_UNKNOWN'],
    ['another digest', { digest: 'declared:other' }, 'MODEL_UNKNOWN'],
    ['less than its price', { rates: { embeddingToken: 999n } }, 'RATE_TOO_LOW'],
  ])('refuses %s, with the reason', async (_what, change, code) => {
    await start();
    const grant = market.grant(peerId, 5, change);
    await expect(run(grant, new CheckingSink(market, grant, address))).resolves.toMatchObject({ end: 'refused', code });
  });

  it('refuses to go on with a lease it knows nothing of', async () => {
    await start();
    const grant = market.grant(peerId, 5);
    await expect(
      market.link.runLease(grant, 2, rowInputs(2, 5), new CheckingSink(market, grant, address), NEVER),
    ).resolves.toMatchObject({ end: 'refused', code: 'LEASE_UNKNOWN' });
  });

  it('stops serving when more is promised than it dares', async () => {
    await start({ exposureMax: 29n });
    market.link.tell(
      peerId,
      await acceptance('44444444-0000-4000-8000-000000000000', { charge: 30n, fee: 1n, cumulative: 29n, total: 29n }),
    );
    await eventually('the voucher is kept', () => market.events.kepts.length === 1);
    const grant = market.grant(peerId, 5);
    await expect(run(grant, new CheckingSink(market, grant, address))).resolves.toMatchObject({
      end: 'refused',
      code: 'EXPOSURE',
    });
    await eventually('its slots are not offered', () => market.link.nodes()[0]?.freeSlots === 0);
  });

  it('goes by its last exposure while settled.json cannot be read, and does not start on none', async () => {
    await start({ exposureMax: 30n });
    const settled = join(dataDir, 'settled.json');
    symlinkSync('settled.json', settled);
    market.link.tell(
      peerId,
      await acceptance('44444444-0000-4000-8000-000000000000', { charge: 30n, fee: 1n, cumulative: 29n, total: 29n }),
    );
    await eventually('it was looked at', () => logs.some(({ event }) => event === 'exposure-unreadable'));
    expect(node?.status()).toMatchObject({ uncashed: '0' });
    expect(lstatSync(settled).isSymbolicLink()).toBe(true);
    await node?.stop(0);
    await expect(start()).rejects.toThrow(UnreadableFileError);
    rmSync(settled);
    await start();
    expect(node?.status()).toMatchObject({ uncashed: '29' });
  });

  it('works no more for a coordinator that takes rows and signs nothing, across a restart, until it signs', async () => {
    await start({ unsignedMax: 30n });
    const taken = market.grant(peerId, 10);
    await expect(run(taken, new CheckingSink(market, taken, address))).resolves.toEqual({ end: 'committed' });
    const refused = async (): Promise<void> => {
      const grant = market.grant(peerId, 1);
      await expect(run(grant, new CheckingSink(market, grant, address))).resolves.toMatchObject({
        end: 'refused',
        code: 'UNSIGNED',
      });
    };
    await refused();
    await eventually('its slots are not offered', () => market.link.nodes()[0]?.freeSlots === 0);
    expect(logs.filter(({ event }) => event === 'unsigned-limit')).toHaveLength(1);
    // Neither taking the lease back nor a start of the node makes the work undone.
    market.link.tell(peerId, { type: 'drop', lease: { task: taken.task, epoch: 1 }, why: 'not yours any more' });
    await eventually('it is dropped', () => logs.some(({ event }) => event === 'lease-dropped'));
    await refused();
    await node?.stop(0);
    await start({ unsignedMax: 30n });
    await refused();
    market.link.tell(peerId, {
      type: 'accepted',
      receipt: { task: taken.task, epoch: 1, charge: '30', fee: '1' },
      voucher: null,
    });
    await refused();
    market.link.tell(peerId, await acceptance(taken.task, { charge: 30n, fee: 1n, cumulative: 29n, total: 29n }));
    await eventually('the voucher is kept', () => market.events.kepts.length === 2);
    const next = market.grant(peerId, 9);
    await expect(run(next, new CheckingSink(market, next, address))).resolves.toEqual({ end: 'committed' });
  });

  it('says what broke when the engine cannot run a row, and keeps what was done under a checkpoint', async () => {
    await start();
    const grant = market.grant(peerId, 40);
    const sink = new CheckingSink(market, grant, address);
    sink.onResults = (done) => void (engine.broken = done >= 4);
    engine.rowMs = 5;
    await expect(run(grant, sink)).resolves.toMatchObject({ end: 'failed', code: 'tiny_broken' });
    expect(sink.durable).toBe(sink.outputs.size);
    expect(sink.durable).toBeGreaterThanOrEqual(4);
  });

  it('offers as loaded what its engines have in memory, and says so anew when that changes', async () => {
    const offered = (): Record<string, boolean> =>
      Object.fromEntries(
        (market.link.nodes()[0]?.offer.engines ?? []).flatMap(({ models }) =>
          models.map(({ name, loaded }) => [name, loaded]),
        ),
      );
    engine.inMemory = new Set(['words']);
    await start({ enginesLookMs: 20 });
    expect(offered()).toEqual({ vectors: false, words: true });
    engine.inMemory = new Set(['vectors']);
    await eventually('the offer follows', () => offered()['vectors'] === true);
    expect(offered()).toEqual({ vectors: true, words: false });
  });

  it('lets a chat in at the next row boundary, though batch work has every slot', async () => {
    engine.rowMs = 30;
    await start({ seats: { rates: {}, slots: 1, chatSharePercent: 50, model: null } });
    const grant = market.grant(peerId, 60);
    const sink = new CheckingSink(market, grant, address);
    const lease = run(grant, sink);
    await eventually('rows come', () => sink.outputs.size > 3);
    const events: string[] = [];
    for await (const event of market.link.runStream(market.grant(peerId, 1), { ...EMBED }, NEVER))
      events.push(event.type);
    expect(events).toEqual(['done']);
    await expect(lease).resolves.toEqual({ end: 'committed' });
  });

  it('hands its rows back when chat keeps the slot, and what was done stays valid', async () => {
    engine.rowMs = 20;
    engine.questionMs = 800;
    await start({ seats: { rates: {}, slots: 1, chatSharePercent: 100, model: null }, starvedMs: 150 });
    const grant = market.grant(peerId, 100);
    const sink = new CheckingSink(market, grant, address);
    const lease = run(grant, sink);
    await eventually('rows come', () => sink.outputs.size >= 3);
    const chat = market.link.runStream(market.grant(peerId, 1), EMBED, NEVER)[Symbol.asyncIterator]();
    const answer = chat.next();
    await expect(lease).resolves.toEqual({ end: 'yielded' });
    expect(sink.faults).toEqual([]);
    expect(sink.durable).toBe(sink.outputs.size);
    await expect(answer).resolves.toMatchObject({ value: { type: 'done' } });
    await eventually('the payloads are gone', () => readdirSync(join(dataDir, 'leases')).length === 0);
  });

  it('hands its rows back when its coordinator asks for room, under a last checkpoint, and takes the next lease', async () => {
    engine.rowMs = 20;
    await start();
    const grant = market.grant(peerId, 500);
    const sink = new CheckingSink(market, grant, address);
    const lease = run(grant, sink);
    await eventually('rows come', () => sink.outputs.size >= 3);
    market.link.tell(peerId, { type: 'yield', lease: { task: grant.task, epoch: 1 }, why: 'room' });
    await expect(lease).resolves.toEqual({ end: 'yielded' });
    expect([sink.faults, sink.durable]).toEqual([[], sink.outputs.size]);
    const next = market.grant(peerId, 4);
    await expect(run(next, new CheckingSink(market, next, address))).resolves.toEqual({ end: 'committed' });
  });

  it('keeps a lease whatever another coordinator says of it', async () => {
    engine.rowMs = 5;
    await start();
    const grant = market.grant(peerId, 40);
    const sink = new CheckingSink(market, grant, address);
    const lease = run(grant, sink);
    await eventually('rows come', () => sink.outputs.size >= 3);
    const stranger = { version: 1, coordinator: 'another', delegate: `0x${'ab'.repeat(20)}`, ...DOMAIN };
    await node?.hello('stranger', stranger);
    const ref = { lease: { task: grant.task, epoch: 1 }, why: 'mine now' };
    for (const type of ['drop', 'yield', 'rejected'] as const) await node?.told('stranger', { type, ...ref });
    const receipt = { ...ref.lease, charge: '0', fee: '0' };
    await node?.told('stranger', { type: 'accepted', receipt, voucher: null });
    await expect(lease).resolves.toEqual({ end: 'committed' });
    expect(logs.filter(({ event }) => event === 'lease-of-another')).toHaveLength(4);
  });

  it('writes nothing on a bare word about work that it never did', async () => {
    await start();
    const task = '99999999-0000-4000-8000-000000000000';
    market.link.tell(peerId, { type: 'accepted', receipt: { task, epoch: 1, charge: '9', fee: '0' }, voucher: null });
    const commitment = { height: '1', root: `0x${'00'.repeat(32)}`, signature: `0x${'00'.repeat(65)}` };
    market.link.tell(peerId, { type: 'countersigned', lease: { task, epoch: 1 }, ...commitment });
    await eventually('it is refused', () => logs.some(({ detail }) => detail['code'] === 'RECEIPT_UNKNOWN'));
    await eventually('both are', () => logs.some(({ event }) => event === 'countersigned-unknown'));
    expect(['receipts', 'commits'].map((folder) => readdirSync(join(dataDir, folder)))).toEqual([[], []]);
  });

  it('caps the share of chat', async () => {
    engine.tokenMs = 50;
    await start();
    const words = { model: 'words', digest: 'declared:words', rates: {} };
    const first = market.link.runStream(market.grant(peerId, 1, words), CHAT_WORK, NEVER)[Symbol.asyncIterator]();
    await first.next();
    const second = (async () => {
      for await (const event of market.link.runStream(market.grant(peerId, 1, words), CHAT_WORK, NEVER))
        throw new Error(`unexpected ${event.type}`);
    })();
    await expect(second).rejects.toMatchObject({ code: 'CHAT_SHARE', retry: true });
    await first.return?.(undefined);
    await eventually('the abort frees the slot', () => market.link.nodes()[0]?.busyChats === 0);
  });

  it('commits to a chat with one signed leaf, and stops the engine when the client goes away', async () => {
    await start();
    const words = { model: 'words', digest: 'declared:words', rates: {} };
    const grant = market.grant(peerId, 1, words);
    const events = [];
    for await (const event of market.link.runStream(grant, CHAT_WORK, NEVER)) events.push(event);
    const done = events.at(-1);
    if (done?.type !== 'done') throw new Error('expected an end');
    expect(events.flatMap((event) => (event.type === 'delta' ? event.tokens : []))).toEqual(
      done.output.kind === 'chat' ? done.output.tokens : null,
    );
    const { checkpointMessage } = await import('@freehold/wiring/node');
    await expect(
      market.signing.signatures.recover('LeaseCheckpoint', checkpointMessage(grant, 1, done.root), done.signature),
    ).resolves.toBe(address);
  });

  it('hands a lease back in order when it is stopped in the middle', async () => {
    engine.rowMs = 30;
    await start();
    const grant = market.grant(peerId, 500);
    const sink = new CheckingSink(market, grant, address);
    const lease = run(grant, sink);
    await eventually('rows come', () => sink.outputs.size >= 3);
    await node?.stop(200);
    await expect(lease).resolves.toEqual({ end: 'yielded' });
    expect(sink.faults).toEqual([]);
    expect(sink.durable).toBe(sink.outputs.size);
    expect(engine.closed).toBe(true);
  });

  it('does not work for a coordinator of another chain than it was told', async () => {
    node = await startedNode(market, engine, { dataDir, logs, pinned: { chainId: 1, escrow: null } });
    await eventually('it says so', () =>
      logs.some(({ event, detail }) => event === 'link-failed' && String(detail['message']).includes('chain 31337')),
    );
    expect(market.link.nodes()).toEqual([]);
  });

  const EMBED = { kind: 'embedding' as const, inputs: [QUESTION] };

  /** The rest of a receipt: which rows of which job it is about. Signatures are for whoever rebuilds to check. */
  const workOf = ({ job, rows }: { job: string; rows: number }) => ({
    job,
    address,
    payout: address,
    rows: { from: 100, to: 100 + rows, succeeded: rows },
    commitment: {
      root: `0x${'aa'.repeat(32)}`,
      n: rows,
      signature: `0x${'00'.repeat(65)}`,
      countersignature: null,
    },
    draw: { height: null },
    usage: {},
    rates: {},
  });

  const acceptance = (
    task: string,
    money: Parameters<TestMarket['acceptance']>[2],
    about: { job: string; rows: number } | null = null,
  ) => market.acceptance(task, address, money, about === null ? {} : workOf(about));
});
