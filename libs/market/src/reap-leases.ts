import { ATTEMPTS_MAX, type TaskState } from '@freehold/domain';
import { LEASE_MS, leaseKey, STALL_MS, type LeaseRef } from '@freehold/protocol';
import type { DeadLease, LeaseStore } from './ports/lease-store.ts';

const REAP_MAX = 500;
const RUNNING: ReadonlySet<TaskState> = new Set(['leased', 'running']);

export interface ReapPorts {
  readonly leases: LeaseStore;
  readonly held: () => readonly { readonly nodeId: string; readonly lease: LeaseRef }[];
  /** `kept`: its node was asked to hand it back, had its time for that, and signed nothing since. Nobody but who takes it back knows. */
  readonly drop: (nodeId: string, lease: LeaseRef, why: string, kept: boolean) => void;
  /** {@link STALL_MS}, where it is not another. */
  readonly stallMs?: number;
}

export interface Reaped {
  readonly extended: number;
  /** Those that were: by the database they run, whatever their nodes say of them. */
  readonly run: readonly LeaseRef[];
  readonly lost: number;
  readonly jobsEnded: readonly string[];
  readonly poisoned: number;
}

/**
 * One tick of the lease clock: extend in one UPDATE what nodes say they hold, tell them what is not theirs any more, take
 * back what died of silence, got no further or was kept against a request, end what is past its deadline. Time is the database's alone.
 */
export async function reapLeases(ports: ReapPorts): Promise<Reaped> {
  const held = ports.held();
  const { stallMs = STALL_MS } = ports;
  const alive = held.length === 0 ? [] : await ports.leases.extend(held, LEASE_MS, stallMs);
  const aliveKeys = new Set(alive.map((lease) => leaseKey(lease)));
  for (const { nodeId, lease } of held) {
    if (!aliveKeys.has(leaseKey(lease))) await dropIfStale(ports, nodeId, lease);
  }
  let lost = 0;
  for (const dead of await ports.leases.expired(REAP_MAX, stallMs)) if (await isLost(ports, dead, stallMs)) lost += 1;
  const jobsEnded = await ports.leases.expireJobs();
  const poisoned = await ports.leases.failPoison(ATTEMPTS_MAX);
  await ports.leases.heartbeatSelf();
  return { extended: alive.length, run: alive, lost, jobsEnded, poisoned };
}

/**
 * Takes it back. Who is silent hears nothing; who is there, and stalled or kept what it was asked for, is told why. Who signed rows
 * after it was asked worked on it, over a slow line perhaps: the rest goes to another all the same, and nobody is blamed.
 *
 * @returns whether it was lost.
 */
async function isLost(ports: ReapPorts, dead: DeadLease, stallMs: number): Promise<boolean> {
  const { nodeId, task, epoch, kept, stalled, signedSince } = dead;
  const lease = { task, epoch };
  const event = kept && signedSince ? 'yield' : 'lose';
  const why = reasonOf(dead, stallMs);
  const given = await ports.leases.giveBack(lease, event, why);
  if (given.moved && (kept || stalled)) ports.drop(nodeId, lease, why, kept && !signedSince);
  return given.moved && event === 'lose';
}

function reasonOf({ kept, signedSince, stalled }: DeadLease, stallMs: number): string {
  if (kept && signedSince)
    return 'too late: the node was asked to hand back its last rows, and was still delivering them when its time was over';
  if (kept)
    return 'kept: the node was asked to hand back its last rows, and in its time did neither that nor finish them';
  if (stalled) return `stalled: the node was there and delivered no row for ${Math.round(stallMs / 1_000)} s`;
  return 'the node was silent for longer than the lease';
}

/**
 * A lease that its node committed waits for its verdict and needs no extension; one that runs and was not extended is stalled, or was
 * to be handed back, and has what is left of its clock. Anything else that could not be extended is stale: also what was cut short by
 * another scheduler's reaper, which could not tell the node.
 */
async function dropIfStale(ports: ReapPorts, nodeId: string, lease: LeaseRef): Promise<void> {
  const view = await ports.leases.view(lease);
  const isItsOwn = view !== null && view.nodeId === nodeId && view.taskEpoch === lease.epoch;
  const waits = isItsOwn && (view.state === 'delivered' ? view.committed && !view.cutShort : RUNNING.has(view.state));
  if (!waits) ports.drop(nodeId, lease, 'not yours any more', false);
}
