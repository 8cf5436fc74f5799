import { expect, it } from '@jest/globals';
import { reapLeases } from '@freehold/market';
import { leaseKey, STALL_MS, type LeaseRef } from '@freehold/protocol';
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
  // What is not its own any more is dropped plainly.
  told.length = 0;
  await tick();
  expect(told).toEqual([`${idle.task}: not yours any more`]);
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
      drop: (_node: string, ref: LeaseRef, why: string) => told.push(`${ref.task}: ${why}`),
    });
  await world.store.yieldWithin(lease, 60_000);
  expect(await tick()).toMatchObject({ extended: 1, lost: 0 });
  world.db.leases.update(leaseKey(lease), { yieldByMs: world.db.nowMs });
  expect(await tick()).toMatchObject({ extended: 0, lost: 0 });
  await world.silence(lease);
  // Two reapers, and one of them twice: it is taken once.
  expect((await Promise.all([tick(), tick(), tick()])).map(({ lost }) => lost)).toEqual([1, 0, 0]);
  const why = 'kept: the node was asked to hand back its last rows, and in its time did neither that nor finish them';
  expect(told).toEqual([`${lease.task}: ${why}`]);
  expect(await world.store.view(lease)).toMatchObject({ state: 'delivered', committed: true, rowTo: 4 });
  const [open] = await world.store.demandOf([job], 5);
  expect(open?.queued).toMatchObject([{ rowFrom: 4, rowTo: 10, attempts: 1, lastNode: node }]);
  expect((await world.store.nodeRecords([node])).get(node)).toMatchObject({ leasesLost: 1, benchedForMs: 0 });
});
