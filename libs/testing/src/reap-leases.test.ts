import { expect, it } from '@jest/globals';
import { reapLeases } from '@freehold/market';
import { leaseKey, STALL_MS, type LeaseRef } from '@freehold/protocol';
import { LEASE_MS } from './lease-world.ts';
import { MemoryLeaseWorld } from './sim/memory/memory-lease-world.ts';

it('a node that heartbeats and delivers nothing loses its lease, hears why, and the job says why; rows it gave stay', async () => {
  const world = new MemoryLeaseWorld();
  const [node, job] = [await world.node(), await world.batch(20)];
  const [idle, half] = [await world.lease(job, node, 0, 10), await world.lease(job, node, 10, 20)];
  await world.store.checkpoint(half, world.rows(half, 0, 4), world.at(half, 4));
  const told: string[] = [];
  const tick = () =>
    reapLeases({
      leases: world.store,
      held: () => [idle, half].map((lease) => ({ nodeId: node, lease })),
      drop: (_node: string, lease: LeaseRef, why: string) => told.push(`${lease.task}: ${why}`),
    });
  expect(await tick()).toMatchObject({ extended: 2, lost: 0 });
  for (const lease of [idle, half]) await world.stall(lease, STALL_MS);
  // Stalled, but its clock still runs: nothing is said yet.
  expect(await tick()).toMatchObject({ extended: 0, lost: 0 });
  expect(told).toEqual([]);
  for (const lease of [idle, half]) await world.silence(lease);
  expect(await tick()).toMatchObject({ extended: 0, lost: 2 });
  const why = 'stalled: the node was there and delivered no row for 900 s';
  expect(told.sort()).toEqual([`${idle.task}: ${why}`, `${half.task}: ${why}`].sort());
  const moves = world.db.taskEvents.where((event) => event.why === why).map(({ task, to }) => [task === half.task, to]);
  expect(moves).toEqual(
    expect.arrayContaining([
      [true, 'delivered'],
      [false, 'queued'],
    ]),
  );
  const record = (await world.store.nodeRecords([node])).get(node);
  expect(record).toMatchObject({ leasesLost: 2, benchedForMs: 0 });
  // What is not its own any more is dropped plainly, for as long as the node names it.
  told.length = 0;
  await tick();
  expect(told.sort()).toEqual([`${idle.task}: not yours any more`, `${half.task}: not yours any more`].sort());
});

it('a node that keeps what it was asked to hand back loses it in the same way, at its clock and not before', async () => {
  const world = new MemoryLeaseWorld();
  const [node, job] = [await world.node(), await world.batch(10)];
  const lease = await world.lease(job, node, 0, 10);
  await world.store.checkpoint(lease, world.rows(lease, 0, 4), world.at(lease, 4));
  const told: string[] = [];
  const tick = () =>
    reapLeases({
      leases: world.store,
      held: () => [{ nodeId: node, lease }],
      drop: (_node: string, ref: LeaseRef, why: string, kept: boolean) => told.push(`${ref.task}: ${kept} ${why}`),
    });
  await world.store.yieldWithin(lease, 60_000);
  expect(await tick()).toMatchObject({ extended: 1, lost: 0 });
  world.db.leases.update(leaseKey(lease), { yieldByMs: world.db.nowMs });
  expect(await tick()).toMatchObject({ extended: 0, lost: 0 });
  await world.silence(lease);
  // Two reapers, and one of them twice: it is taken once.
  expect((await Promise.all([tick(), tick(), tick()])).map(({ lost }) => lost)).toEqual([1, 0, 0]);
  const why = 'kept: the node was asked to hand back its last rows, and in its time did neither that nor finish them';
  expect(told).toEqual([`${lease.task}: true ${why}`]);
  expect(await world.store.view(lease)).toMatchObject({ state: 'delivered', committed: true, rowTo: 4 });
  const [open] = await world.store.demandOf([job], 5);
  expect(open?.queued).toMatchObject([{ rowFrom: 4, rowTo: 10, attempts: 1, lastNode: node }]);
  expect((await world.store.nodeRecords([node])).get(node)).toMatchObject({ leasesLost: 1, benchedForMs: 0 });
});

it('a node that signs rows after it was asked, and does not end in its time, is not blamed for what goes to another', async () => {
  const world = new MemoryLeaseWorld();
  const [node, job] = [await world.node(), await world.batch(10)];
  const lease = await world.lease(job, node, 0, 10);
  await world.store.checkpoint(lease, world.rows(lease, 0, 4), world.at(lease, 4));
  await world.store.yieldWithin(lease, 0);
  await world.store.checkpoint(lease, world.rows(lease, 4, 6), world.at(lease, 6));
  await world.silence(lease);
  const told: string[] = [];
  const drop = (_node: string, _lease: LeaseRef, why: string, kept: boolean) => told.push(`${kept} ${why}`);
  expect(await reapLeases({ leases: world.store, held: () => [], drop })).toMatchObject({ lost: 0 });
  expect(told).toEqual([
    'false too late: the node was asked to hand back its last rows, and was still delivering them when its time was over',
  ]);
  const [open] = await world.store.demandOf([job], 5);
  expect(open?.queued).toMatchObject([{ rowFrom: 6, rowTo: 10, attempts: 0, lastNode: node }]);
  expect((await world.store.nodeRecords([node])).get(node)).toMatchObject({ leasesLost: 0 });
});

it('a node that died after it was asked was silent, and kept nothing', async () => {
  const world = new MemoryLeaseWorld();
  const [node, job] = [await world.node(), await world.batch(10)];
  const lease = await world.lease(job, node, 0, 10);
  await world.store.yieldWithin(lease, LEASE_MS);
  await world.silence(lease);
  expect(await reapLeases({ leases: world.store, held: () => [], drop: () => undefined })).toMatchObject({ lost: 1 });
  const [moved] = world.db.taskEvents.where(({ task, to }) => task === lease.task && to === 'queued');
  expect(moved?.why).toBe('the node was silent for longer than the lease');
});

it('a node that died in an outage of the coordinator after it was asked was silent, and one that kept it kept it', async () => {
  const world = new MemoryLeaseWorld();
  const [node, job] = [await world.node(), await world.batch(20)];
  const [silent, kept] = [await world.lease(job, node, 0, 10), await world.lease(job, node, 10, 20)];
  const { nowMs } = world.db;
  // Heard a second before the last tick, a minute ago; one term came later, the other was over.
  world.db.facts.put('alive', { value: 'true', atMs: nowMs - 60_000 });
  const heard = { leaseUntilMs: nowMs - 51_000, askedRows: 0 };
  world.db.leases.update(leaseKey(silent), { ...heard, yieldByMs: nowMs - 45_000 });
  world.db.leases.update(leaseKey(kept), { ...heard, yieldByMs: nowMs - 60_000 });
  const tick = () => reapLeases({ leases: world.store, held: () => [], drop: () => undefined });
  expect(await tick()).toMatchObject({ lost: 0 });
  for (const lease of [silent, kept]) await world.silence(lease);
  expect(await tick()).toMatchObject({ lost: 2 });
  const why = ({ task }: LeaseRef): string | null | undefined =>
    world.db.taskEvents.where((event) => event.task === task && event.to === 'queued')[0]?.why;
  expect(why(silent)).toBe('the node was silent for longer than the lease');
  expect(why(kept)).toMatch(/^kept: /);
});

it('a node whose lease another scheduler took back is told by its own, and works on for nobody no longer', async () => {
  const world = new MemoryLeaseWorld();
  const [node, job] = [await world.node(), await world.batch(20)];
  const [cut, whole] = [await world.lease(job, node, 0, 10), await world.lease(job, node, 10, 20)];
  await world.store.checkpoint(cut, world.rows(cut, 0, 4), world.at(cut, 4));
  await world.deliver(whole);
  await world.silence(cut);
  await reapLeases({ leases: world.store, held: () => [], drop: () => undefined });
  const told: string[] = [];
  const drop = (_node: string, lease: LeaseRef, why: string) => told.push(`${lease.task}: ${why}`);
  const held = () => [cut, whole].map((lease) => ({ nodeId: node, lease }));
  await reapLeases({ leases: world.store, held, drop });
  expect(told).toEqual([`${cut.task}: not yours any more`]);
});
