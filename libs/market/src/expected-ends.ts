import { TASK_TARGET_MS, type Candidate } from '@freehold/domain';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import type { GrantedLease } from './ports/lease-store.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** When the leases of nodes are over, by the speeds of the nodes as they were granted: a node works through them one after the other. */
export class ExpectedEnds {
  readonly #clock: MonotonicClock;
  readonly #byNode = new Map<string, Map<string, number>>();
  readonly #nodes = new Map<string, string>();

  constructor(clock: MonotonicClock) {
    this.#clock = clock;
  }

  began(lease: GrantedLease, node: Candidate | undefined): void {
    const speed = node?.models.find(({ digest }) => digest === lease.digest)?.rowsPerSecond ?? 0;
    const lastsMs = speed > 0 ? ((lease.rowTo - lease.rowFrom) * 1_000) / speed : TASK_TARGET_MS;
    const known = this.#byNode.get(lease.nodeId) ?? new Map<string, number>();
    const from = Math.max(this.#clock.nowMs(), ...known.values());
    known.set(leaseKey(lease), from + lastsMs);
    this.#byNode.set(lease.nodeId, known);
    this.#nodes.set(leaseKey(lease), lease.nodeId);
  }

  ended(lease: LeaseRef): void {
    const key = leaseKey(lease);
    const nodeId = this.#nodes.get(key);
    if (nodeId === undefined) return;
    this.#nodes.delete(key);
    const known = this.#byNode.get(nodeId);
    known?.delete(key);
    if (known?.size === 0) this.#byNode.delete(nodeId);
  }

  /** Of a lease that nobody here saw begin, or that should be over by now, another task's time is expected. */
  readonly freeInMs = ({ nodeId, leasesActive }: Candidate): number => {
    if (leasesActive === 0) return 0;
    const leftMs = Math.max(0, ...(this.#byNode.get(nodeId)?.values() ?? [])) - this.#clock.nowMs();
    return leftMs > 0 ? leftMs : TASK_TARGET_MS;
  };
}
