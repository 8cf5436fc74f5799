import { ATTEMPTS_MAX } from '@freehold/domain';
import { LEASE_MS, type LeaseRef } from '@freehold/protocol';
import type { LeaseStore } from './ports/lease-store.ts';

const REAP_MAX = 500;

export interface ReapPorts {
  readonly leases: LeaseStore;
  readonly held: () => readonly { readonly nodeId: string; readonly lease: LeaseRef }[];
  readonly drop: (nodeId: string, lease: LeaseRef, why: string) => void;
}

export interface Reaped {
  readonly extended: number;
  readonly lost: number;
  readonly jobsEnded: readonly string[];
  readonly poisoned: number;
}

/**
 * One tick of the lease clock: extend in one UPDATE what nodes say they hold, tell them what is not theirs any more, take
 * back what died of silence, end what is past its deadline. Time is the database's alone.
 */
export async function reapLeases(ports: ReapPorts): Promise<Reaped> {
  const held = ports.held();
  const alive = held.length === 0 ? [] : await ports.leases.extend(held, LEASE_MS);
  const aliveKeys = new Set(alive.map((lease) => `${lease.task}.${lease.epoch}`));
  for (const { nodeId, lease } of held) {
    if (!aliveKeys.has(`${lease.task}.${lease.epoch}`)) await dropIfStale(ports, nodeId, lease);
  }
  let lost = 0;
  for (const lease of await ports.leases.expired(REAP_MAX)) {
    const given = await ports.leases.giveBack(lease, 'lose', 'the node was silent for longer than the lease');
    if (given.moved) lost += 1;
  }
  const jobsEnded = await ports.leases.expireJobs();
  const poisoned = await ports.leases.failPoison(ATTEMPTS_MAX);
  await ports.leases.heartbeatSelf();
  return { extended: alive.length, lost, jobsEnded, poisoned };
}

/** A committed lease waits for its verdict and needs no extension; anything else that could not be extended is stale. */
async function dropIfStale(ports: ReapPorts, nodeId: string, lease: LeaseRef): Promise<void> {
  const view = await ports.leases.view(lease);
  const waits = view !== null && view.committed && view.state === 'delivered' && view.taskEpoch === lease.epoch;
  if (!waits) ports.drop(nodeId, lease, 'not yours any more');
}
