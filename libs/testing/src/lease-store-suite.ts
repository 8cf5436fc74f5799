import { beforeAll, describe, expect, it } from '@jest/globals';
import { UNCOVERED, type PayingOrder } from '@freehold/domain';
import type { LeaseStore } from '@freehold/market';
import { STALL_MS } from '@freehold/protocol';
import { LEASE_MS, OPEN_EPOCH, type LeaseWorld } from './lease-world.ts';

const fenced = { moved: false, why: 'moved-by-another' };

/** What every {@link LeaseStore} does: who may move a lease, and what happens to its rows. `makeWorld` is asked once, before the tests. */
export function leaseStoreSuite(name: string, makeWorld: () => LeaseWorld): void {
  describe(`lease store on ${name}`, () => {
    let world: LeaseWorld;
    let store: LeaseStore;
    beforeAll(() => {
      world = makeWorld();
      store = world.store;
    });

    describe('placements', () => {
      it('chain several cuts of one job, and lease what came back, in one call', async () => {
        const [node, job] = [await world.node(), await world.batch(30)];
        const back = await world.lease(job, node, 0, 5);
        await store.giveBack(back, 'refuse', 'busy');
        const wishes = [
          world.wish(job, node, 15, 30),
          world.wish(job, node, 5, 15),
          world.wish(job, node, 0, 5, { task: back.task, epoch: 2 }),
        ];
        const granted = await store.grant(wishes, LEASE_MS);
        expect(granted.map(({ rowFrom, rowTo, epoch }) => [rowFrom, rowTo, epoch])).toEqual([
          [0, 5, 2],
          [5, 15, 1],
          [15, 30, 1],
        ]);
        expect(granted[0]).toMatchObject({ task: back.task, jobId: job, nodeId: node, nonce: wishes[2]?.nonce });
        expect(await store.grant(wishes, LEASE_MS)).toEqual([]);
      });

      it('are written each on its own terms, which others may share', async () => {
        const [one, other, job] = [await world.node(), await world.node(), await world.batch(40)];
        const wishes = Array.from({ length: 8 }, (_, n) => ({
          ...world.wish(job, n % 3 === 0 ? one : other, n * 5, n * 5 + 5),
          digest: `declared:${n % 2}`,
          rates: { embeddingToken: BigInt(n % 4) },
        }));
        const granted = await store.grant([...wishes].reverse(), LEASE_MS);
        expect(new Set(granted.map(({ task }) => task)).size).toBe(8);
        for (const [n, lease] of granted.entries()) {
          const { nodeId, nonce, digest, rates, rowFrom, rowTo } = wishes[n] ?? lease;
          const asWished = { nodeId, nonce, digest, rates, rowFrom, rowTo, jobId: job };
          expect(lease).toMatchObject(asWished);
          expect(await store.view(lease)).toMatchObject(asWished);
        }
      });
    });

    it('says where its rows may be, for whoever sends them to another node', async () => {
      const node = await world.node();
      const kept = await world.batch(1, { region: 'eu, us', isolation: 'gvisor' });
      const anywhere = await world.batch(1);
      const [lease, other] = [await world.lease(kept, node, 0, 1), await world.lease(anywhere, node, 0, 1)];
      expect(await store.view(lease)).toMatchObject({ region: 'eu, us', isolation: 'gvisor', poolId: null });
      expect(await store.view(other)).toMatchObject({ region: null, isolation: 'none', poolId: null });
    });

    describe('a gang', () => {
      it('is granted for as many nodes as it begins on, or not at all, whatever the list names beside it', async () => {
        const [nodes, job] = [await Promise.all([1, 2, 3].map(() => world.node())), await world.batch(30, { gang: 3 })];
        const [a = '', b = '', c = ''] = nodes;
        const other = await world.batch(5);
        const demanded = async (): Promise<unknown> => (await store.demandOf([job], 1))[0]?.gang;
        expect(await demanded()).toBe(3);
        expect((await store.demandOf([other], 1)).map(({ gang }) => gang)).toEqual([undefined]);
        const partial = [
          [world.wish(job, a, 0, 10)],
          [world.wish(job, a, 0, 10), world.wish(job, b, 10, 20)],
          [world.wish(job, a, 0, 10), world.wish(job, b, 10, 20), world.wish(job, b, 20, 30)],
          // A hole, and rows beyond its end: what is before them would be a part of it.
          [world.wish(job, a, 0, 10), world.wish(job, b, 10, 15), world.wish(job, c, 20, 30)],
          [world.wish(job, a, 0, 10), world.wish(job, b, 10, 20), world.wish(job, c, 20, 31)],
        ];
        for (const wishes of partial) expect(await store.grant(wishes, LEASE_MS)).toEqual([]);
        const whole = [world.wish(job, a, 0, 5), world.wish(job, b, 5, 10), world.wish(job, c, 10, 12)];
        const beside = await store.grant([...(partial[1] ?? []), world.wish(other, c, 0, 5)], LEASE_MS);
        expect(beside.map(({ jobId }) => jobId)).toEqual([other]);
        const granted = await store.grant(whole, LEASE_MS);
        expect(granted.map(({ nodeId }) => nodeId)).toEqual(nodes);
        // It has begun: what came back, and what nobody had yet, is any job's work.
        expect(await demanded()).toBeUndefined();
        const [first] = granted;
        if (first === undefined) throw new Error('not granted');
        await store.giveBack(first, 'refuse', 'busy');
        expect(await demanded()).toBeUndefined();
        const rest = [world.wish(job, b, 0, 5, { task: first.task, epoch: 2 }), world.wish(job, b, 12, 30)];
        expect(await store.grant(rest, LEASE_MS)).toHaveLength(2);
      });

      it('of fewer rows than nodes, which was taken before there were any, begins on as many as it has rows', async () => {
        const [a, b] = [await world.node(), await world.node()];
        const [two, one] = [await world.batch(2, { gang: 3 }), await world.batch(1, { gang: 3 })];
        const demanded = new Map((await store.demandOf([one, two], 1)).map(({ jobId, gang }) => [jobId, gang]));
        expect([demanded.get(two), demanded.get(one)]).toEqual([2, undefined]);
        expect(await store.grant([world.wish(two, a, 0, 2)], LEASE_MS)).toEqual([]);
        expect(await store.grant([world.wish(two, a, 0, 1), world.wish(two, b, 1, 2)], LEASE_MS)).toHaveLength(2);
        expect(await store.grant([world.wish(one, a, 0, 1)], LEASE_MS)).toHaveLength(1);
      });

      it('is begun once and whole by one of several that race for it, and by none when it is over', async () => {
        const nodes = await Promise.all(Array.from({ length: 8 }, () => world.node()));
        for (let round = 0; round < 5; round += 1) {
          const [job, ended] = [await world.batch(8, { gang: 2 }), await world.batch(8, { gang: 2 })];
          const racers = [0, 1, 2, 3].map((racer) => [
            world.wish(job, nodes[2 * racer] ?? '', 0, 1 + racer),
            world.wish(job, nodes[2 * racer + 1] ?? '', 1 + racer, 6),
          ]);
          await world.end(ended, round % 2 === 0 ? 'cancel' : 'expire');
          const late = nodes.slice(0, 2).map((node, i) => world.wish(ended, node, i, i + 1));
          const [over, ...won] = await Promise.all([late, ...racers].map((wishes) => store.grant(wishes, LEASE_MS)));
          expect(over).toEqual([]);
          expect(won.map(({ length }) => length).sort((a, b) => a - b)).toEqual([0, 0, 0, 2]);
        }
      });
    });

    describe('a lease', () => {
      it('hands out its inputs from any row on, to its holder only', async () => {
        const [node, job] = [await world.node(), await world.batch(10)];
        const lease = await world.lease(job, node, 2 - 2, 6);
        const inputs = await store.inputs(lease, 4);
        expect(inputs?.rows).toEqual([
          { rowNo: 4, customId: 'row-4', offset: 400, length: 100 },
          { rowNo: 5, customId: 'row-5', offset: 500, length: 100 },
        ]);
        await store.giveBack(lease, 'yield', 'wanted');
        expect(await store.inputs(lease, 0)).toBeNull();
      });

      it('is extended in bulk, resumed by its nonce, and lost only by silence', async () => {
        const [node, job] = [await world.node(), await world.batch(30)];
        const [a, b, c] = [
          await world.lease(job, node, 0, 10),
          await world.lease(job, node, 10, 20),
          await world.lease(job, node, 20, 30),
        ];
        await store.giveBack(c, 'yield', 'wanted');
        await Promise.all([a, b].map((lease) => world.silence(lease)));
        expect((await store.expired(100)).map(({ task }) => task)).toEqual(expect.arrayContaining([a.task, b.task]));
        const extended = await store.extend(
          [a, c].map((lease) => ({ nodeId: node, lease })),
          LEASE_MS,
        );
        expect(extended).toEqual([{ task: a.task, epoch: 1 }]);
        expect(await store.extend([{ nodeId: 'another', lease: b }], LEASE_MS)).toEqual([]);
        const claim = { task: b.task, epoch: 1, done: 0, committed: false };
        expect(await store.resume(node, [{ ...claim, nonce: `0x${'ff'.repeat(16)}` }], LEASE_MS)).toEqual([]);
        expect(await store.resume(node, [{ ...claim, nonce: b.nonce }], LEASE_MS)).toEqual([
          { task: b.task, epoch: 1 },
        ]);
        expect((await store.expired(100)).filter(({ task }) => [a.task, b.task].includes(task))).toEqual([]);
      });

      it('whose node is there and delivers no row is extended and resumed no more, and dies by its clock as stalled', async () => {
        const [node, job] = [await world.node(), await world.batch(30)];
        const [stalled, slow, young] = [
          await world.lease(job, node, 0, 10),
          await world.lease(job, node, 10, 20),
          await world.lease(job, node, 20, 30),
        ];
        for (const lease of [stalled, slow]) await world.stall(lease, STALL_MS + 1_000);
        await world.stall(young, STALL_MS - 60_000);
        const held = [stalled, slow, young].map((lease) => ({ nodeId: node, lease }));
        const ref = ({ task }: { readonly task: string }) => ({ task, epoch: 1 });
        expect(await store.extend(held, LEASE_MS)).toEqual([ref(young)]);
        const claim = (lease: typeof stalled) => ({ ...ref(lease), nonce: lease.nonce, done: 0, committed: false });
        expect(await store.resume(node, [claim(stalled), claim(young)], LEASE_MS)).toEqual([ref(young)]);
        // What is left of its clock is still its own: a row in it saves the lease, a checkpoint without one does not.
        expect(await store.checkpoint(stalled, [], world.at(stalled, 0))).toEqual({ moved: true });
        expect(await store.checkpoint(slow, world.rows(slow, 0, 1), world.at(slow, 1))).toEqual({ moved: true });
        expect(await store.extend(held, LEASE_MS)).toHaveLength(2);
        for (const lease of [stalled, young]) await world.silence(lease);
        const dead = (await store.expired(100)).filter(({ nodeId }) => nodeId === node);
        expect(dead).toHaveLength(2);
        expect(dead).toEqual(
          expect.arrayContaining([
            { ...ref(stalled), nodeId: node, stalled: true, kept: false, signedSince: false },
            { ...ref(young), nodeId: node, stalled: false, kept: false, signedSince: false },
          ]),
        );
      });

      it('that its node was asked for is extended and resumed until then, and dies by its clock; its rows so far stay', async () => {
        const [node, job] = [await world.node(), await world.batch(40)];
        const [kept, asked, done, left] = [
          await world.lease(job, node, 0, 10),
          await world.lease(job, node, 10, 20),
          await world.lease(job, node, 20, 30),
          await world.lease(job, node, 30, 40),
        ];
        expect((await store.view(kept))?.asked).toBe(false);
        for (const lease of [kept, done]) expect(await store.yieldWithin(lease, 0)).toEqual({ moved: true });
        expect(await store.yieldWithin(asked, 60_000)).toEqual({ moved: true });
        expect((await store.view(kept))?.asked).toBe(true);
        // Who asks again gives no more time, and takes none away.
        await store.yieldWithin(kept, 60_000);
        await store.yieldWithin(asked, 0);
        const held = [kept, asked, done].map((lease) => ({ nodeId: node, lease }));
        const ref = ({ task }: { readonly task: string }) => ({ task, epoch: 1 });
        const claim = (lease: typeof kept) => ({ ...ref(lease), nonce: lease.nonce, done: 0, committed: false });
        const claims = [kept, asked, done].map(claim);
        expect(await store.extend(held, LEASE_MS)).toEqual([ref(asked)]);
        expect(await store.resume(node, claims, LEASE_MS)).toEqual([ref(asked)]);
        // What is signed in what is left of its clock counts, and its last row saves it.
        expect(await store.checkpoint(kept, world.rows(kept, 0, 4), world.at(kept, 4))).toEqual({ moved: true });
        expect(await store.extend(held, LEASE_MS)).toEqual([ref(asked)]);
        await world.deliver(done);
        expect(await store.yieldWithin(done, 0)).toEqual(fenced);
        expect(await store.resume(node, claims, LEASE_MS)).toEqual([ref(asked), ref(done)]);
        // Its node was heard for the last time when this was said, a lease before its time was over.
        await store.yieldWithin(left, LEASE_MS);
        for (const lease of [kept, asked, left]) await world.silence(lease);
        const dead = (await store.expired(100)).filter(({ nodeId }) => nodeId === node);
        expect(dead).toHaveLength(3);
        expect(dead).toEqual(
          expect.arrayContaining([
            { ...ref(kept), nodeId: node, stalled: false, kept: true, signedSince: true },
            { ...ref(asked), nodeId: node, stalled: false, kept: false, signedSince: false },
            { ...ref(left), nodeId: node, stalled: false, kept: false, signedSince: false },
          ]),
        );
        const why = 'kept: it did not hand it back';
        expect((await store.view(kept))?.cutShort).toBe(false);
        expect(await store.giveBack(kept, 'lose', why)).toEqual({ moved: true, keptRows: 4, requeuedRows: 6 });
        expect([(await store.view(kept))?.cutShort, (await store.view(done))?.cutShort]).toEqual([true, false]);
        // A node that comes back with it has nothing more to do of it; what it has committed to itself waits for the verdict.
        expect(await store.resume(node, [kept, done].map(claim), LEASE_MS)).toEqual([ref(done)]);
        // Another reaper comes too late to take what is kept, and so does the stream that the late rows ended.
        expect(await store.giveBack(kept, 'lose', why)).toEqual(fenced);
        expect(await store.view(kept)).toMatchObject({ state: 'delivered', committed: true, rowFrom: 0, rowTo: 4 });
        // Late rows are nobody's, and its record shows a lost lease.
        expect(await store.checkpoint(kept, world.rows(kept, 4, 10), world.at(kept, 10))).toEqual(fenced);
        expect(await store.yieldWithin(kept, 0)).toEqual(fenced);
        expect((await store.nodeRecords([node])).get(node)).toMatchObject({ leasesLost: 1, benchedForMs: 0 });
        expect(await store.yieldWithin({ task: '00000000-0000-4000-8000-000000000000', epoch: 1 }, 0)).toEqual({
          moved: false,
          why: 'not-found',
        });
      });

      it('that is committed waits for its verdict however long, and is resumed all the same', async () => {
        const [node, job] = [await world.node(), await world.batch(10)];
        const lease = await world.lease(job, node, 0, 10);
        await world.deliver(lease);
        await world.stall(lease, 10 * STALL_MS);
        const claim = { task: lease.task, epoch: 1, nonce: lease.nonce, done: 10, committed: true };
        expect(await store.resume(node, [claim], LEASE_MS)).toEqual([{ task: lease.task, epoch: 1 }]);
        expect((await store.expired(100)).filter(({ nodeId }) => nodeId === node)).toEqual([]);
      });

      it('is fenced on every method once its epoch is over', async () => {
        const [node, job] = [await world.node(), await world.batch(10)];
        const lease = await world.lease(job, node, 0, 10);
        await world.deliver(lease);
        const acceptance = await world.acceptance(lease);
        await store.reject(lease, 'its rows are in doubt', 0, 0);
        expect(await store.start(lease)).toEqual(fenced);
        expect(await store.checkpoint(lease, world.rows(lease, 0, 10), world.at(lease, 10))).toEqual(fenced);
        expect(await store.giveBack(lease, 'lose', 'again')).toEqual(fenced);
        expect(await store.saveDraw(lease, `0x${'00'.repeat(32)}`, [1])).toEqual(fenced);
        expect(await store.accept(acceptance)).toEqual(fenced);
        expect(await store.reject(lease, 'bad', 1, 1)).toEqual(fenced);
        expect(await store.extend([{ nodeId: node, lease }], LEASE_MS)).toEqual([]);
        expect(await store.inputs(lease, 0)).toBeNull();
        expect((await store.view(lease))?.alive).toBe(false);
        const nowhere = { task: '00000000-0000-4000-8000-000000000000', epoch: 1 };
        expect(await store.start(nowhere)).toEqual({ moved: false, why: 'not-found' });
        expect(await store.view(nowhere)).toBeNull();
      });

      it('that was lost while it ran says nothing more, while its successor works on', async () => {
        const [slow, next, job] = [await world.node(), await world.node(), await world.batch(10)];
        const stale = await world.lease(job, slow, 0, 10);
        await store.giveBack(stale, 'lose', 'silence');
        const [lease] = await store.grant([world.wish(job, next, 0, 10, { task: stale.task, epoch: 2 })], LEASE_MS);
        if (lease === undefined) throw new Error('not granted again');
        expect(await store.start(stale)).toEqual(fenced);
        expect(await store.checkpoint(stale, world.rows(stale, 0, 4), world.at(stale, 4))).toEqual(fenced);
        expect(await store.checkpoint(stale, world.rows(stale, 0, 10), world.at(stale, 10))).toEqual(fenced);
        expect(await store.extend([{ nodeId: slow, lease: stale }], LEASE_MS)).toEqual([]);
        const claim = { task: stale.task, epoch: 1, nonce: stale.nonce, done: 4, committed: false };
        expect(await store.resume(slow, [claim], LEASE_MS)).toEqual([]);
        expect(await store.delivered(stale)).toEqual([]);
        expect(await store.start(lease)).toEqual({ moved: true });
        await world.deliver(lease);
        expect((await world.accept(lease)).moved).toBe(true);
      });

      it('is fenced while another node holds its task', async () => {
        const [before, after, job] = [await world.node(), await world.node(), await world.batch(10)];
        const stale = await world.lease(job, before, 0, 10);
        await store.giveBack(stale, 'lose', 'silent');
        const [lease] = await store.grant([world.wish(job, after, 0, 10, { task: stale.task, epoch: 2 })], LEASE_MS);
        expect(await store.checkpoint(stale, world.rows(stale, 0, 10), world.at(stale, 10))).toEqual(fenced);
        expect(await store.extend([{ nodeId: before, lease: stale }], LEASE_MS)).toEqual([]);
        expect((await store.view(lease ?? stale))?.state).toBe('leased');
      });

      it('is drawn once', async () => {
        const [node, job] = [await world.node(), await world.batch(4)];
        const lease = await world.lease(job, node, 0, 4);
        await world.deliver(lease);
        const [seed, other] = [`0x${'aa'.repeat(32)}`, `0x${'bb'.repeat(32)}`];
        expect(await store.saveDraw(lease, seed, [1, 3])).toEqual({ moved: true });
        expect(await store.saveDraw(lease, seed, [1, 3])).toEqual({ moved: true });
        expect(await store.saveDraw(lease, other, [2])).toEqual(fenced);
        expect(await store.view(lease)).toMatchObject({ drawSeed: seed, drawRows: [1, 3] });
        const finding = {
          rowNo: 1,
          auditor: 'x',
          auditorKind: 'node' as const,
          verdict: 'good' as const,
          sameClass: false,
          score: { cosine: 1 },
        };
        await store.saveFindings(lease, [finding]);
        await store.saveFindings(lease, [{ ...finding, verdict: 'bad' }]);
        expect(await store.findings(lease)).toEqual([finding]);
      });

      it('is handed back on the word of its own node alone, and on no word once it is committed', async () => {
        const [node, other, job] = [await world.node(), await world.node(), await world.batch(8)];
        const lease = await world.lease(job, node, 0, 8);
        for (const event of ['refuse', 'yield'] as const)
          expect(await store.giveBack(lease, event, 'not mine', other)).toEqual(fenced);
        await world.deliver(lease);
        for (const event of ['refuse', 'yield'] as const)
          expect(await store.giveBack(lease, event, 'before the verdict', node)).toEqual(fenced);
        expect(await store.view(lease)).toMatchObject({ state: 'delivered', committed: true });
        const second = await world.lease(await world.batch(8), node, 0, 8);
        expect(await store.giveBack(second, 'yield', 'wanted', node)).toMatchObject({ moved: true, requeuedRows: 8 });
      });
    });

    describe('a job of who pays by an order on chain', () => {
      const order = (change: Partial<PayingOrder> = {}): PayingOrder => ({
        ...{ state: 'open', closeEpoch: null, reserved: 100n, spent: 0n },
        ...change,
      });
      const closing = (closeEpoch: bigint): PayingOrder => order({ state: 'closing', closeEpoch });

      it.each([
        ['goes on while its order is open', [order()], 'in_progress'],
        ['goes on while a closing order covers the next epoch', [closing(OPEN_EPOCH + 1n)], 'in_progress'],
        ['goes on when another order covers what it holds', [closing(OPEN_EPOCH), order()], 'in_progress'],
        ['goes on through a block that took its order away', [order({ state: 'gone' })], 'in_progress'],
        ['ends when its order pays for this epoch alone', [closing(OPEN_EPOCH)], 'finalizing'],
        ['ends when its order was refunded', [order({ state: 'refunded', closeEpoch: 0n })], 'finalizing'],
        ['ends when what is left open is too little', [closing(OPEN_EPOCH), order({ spent: 1n })], 'finalizing'],
      ] as const)('%s', async (_what, orders, state) => {
        const job = await world.batch(10, { orders });
        await store.expireJobs();
        expect((await world.jobFacts(job))['state']).toBe(state);
        expect((await store.demand(500, 9)).some(({ jobId }) => jobId === job)).toBe(state === 'in_progress');
      });

      it('keeps what a node delivered when it ends, and says why of the rest', async () => {
        const job = await world.batch(10, { orders: [closing(OPEN_EPOCH)] });
        const node = await world.node();
        const lease = await world.lease(job, node, 0, 6);
        await store.checkpoint(lease, world.rows(lease, 0, 4), world.at(lease, 4));
        await store.expireJobs();
        expect(await store.view(lease)).toMatchObject({ state: 'delivered', committed: true, rowTo: 4 });
        expect((await world.accept(lease)).moved).toBe(true);
        const { rowsSucceeded, rowsEnded, reason } = await world.jobFacts(job);
        expect({ rowsSucceeded, rowsEnded, reason }).toEqual({
          rowsSucceeded: 4,
          rowsEnded: 6,
          reason: UNCOVERED.code,
        });
      });
    });

    describe('a verdict against a node', () => {
      it('voids every unaccepted lease of it, benches it, and leaves accepted ones alone', async () => {
        const [cheat, honest] = [await world.node(), await world.node()];
        const job = await world.batch(50);
        const [accepted, caught, delivered, running] = [
          await world.lease(job, cheat, 0, 10),
          await world.lease(job, cheat, 10, 20),
          await world.lease(job, cheat, 20, 30),
          await world.lease(job, cheat, 30, 40),
        ];
        const theirs = await world.lease(job, honest, 40, 50);
        for (const lease of [accepted, caught, delivered, theirs]) await world.deliver(lease);
        await store.checkpoint(running, world.rows(running, 0, 5), world.at(running, 5));
        await world.accept(accepted);
        const rejected = await store.reject(caught, 'audit: 2 bad rows proven', 2, 60_000);
        if (!rejected.moved) throw new Error('the verdict was fenced');
        expect(rejected.voided.map(({ task }) => task).sort()).toEqual(
          [caught, delivered, running].map(({ task }) => task).sort(),
        );
        const record = (await store.nodeRecords([cheat])).get(cheat);
        expect(record).toMatchObject({ rowsBad: 2, rowsInFlight: 0, benchedWhy: 'audit: 2 bad rows proven' });
        expect(record?.benchedForMs).toBeGreaterThan(50_000);
        const [open] = (await store.demand(500, 9)).filter(({ jobId }) => jobId === job);
        expect(open?.queued.map(({ rowFrom, rowTo, attempts }) => [rowFrom, rowTo, attempts])).toEqual([
          [10, 20, 1],
          [20, 30, 1],
          [30, 40, 1],
        ]);
        expect((await world.accept(theirs)).moved).toBe(true);
        expect((await store.view(accepted))?.state).toBe('accepted');
      });

      it('against an auditor benches it with the reason, and never for less than before', async () => {
        const [liar, other] = [await world.node(), await world.node()];
        await store.benchAuditors([{ nodeId: liar, why: 'audit: called a row good' }], 60_000);
        await store.benchAuditors(
          [
            { nodeId: liar, why: 'audit: called a row good again' },
            { nodeId: 'coordinator', why: 'is no node' },
          ],
          10,
        );
        const records = await store.nodeRecords([liar, other]);
        expect(records.get(liar)).toMatchObject({ rowsBad: 0, benchedWhy: 'audit: called a row good again' });
        expect(records.get(liar)?.benchedForMs).toBeGreaterThan(50_000);
        expect(records.get(other)).toMatchObject({ benchedForMs: 0, benchedWhy: null });
      });

      it('voids only the lease in doubt when nothing is proven', async () => {
        const [node, job] = [await world.node(), await world.batch(20)];
        const [doubted, other] = [await world.lease(job, node, 0, 10), await world.lease(job, node, 10, 20)];
        await world.deliver(doubted);
        const rejected = await store.reject(doubted, 'in doubt', 0, 0);
        expect(rejected).toEqual({ moved: true, voided: [{ task: doubted.task, epoch: 1 }] });
        expect((await store.view(other))?.state).toBe('running');
        expect((await store.nodeRecords([node])).get(node)).toMatchObject({ benchedForMs: 0 });
      });
    });
  });
}
