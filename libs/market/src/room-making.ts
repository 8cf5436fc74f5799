import { leaseToYield, type Candidate, type Demand, type JobStanding, type RunningLease } from '@freehold/domain';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import type { GrantedLease } from './ports/lease-store.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** Work waits so long for a lease to end before another is asked to yield for it: most leases are over in a few seconds. */
export const WAIT_FOR_ROOM_MS = 3_000;
/**
 * A node that was asked has so long to hand its lease back: the row in work and a last checkpoint, which is signed every two
 * seconds, take less nearly always. One that is slower, or deaf, keeps its lease; another is asked instead of it.
 */
export const YIELD_MS = 15_000;
/** Why a node was asked, in words for its owner and for the lease's record. */
export const MADE_ROOM = 'it made room for work of higher value';
/** Jobs looked at in one decision, most urgent first, and leases asked at one time. */
const WAITING_MAX = 16;
const ASKED_MAX = 8;
/** Jobs whose yields are counted; with more, the oldest count from zero. */
const COUNTED_MAX = 10_000;

export interface RoomMakingPorts {
  readonly clock: MonotonicClock;
  readonly candidate: (nodeId: string) => Candidate | undefined;
  /** False when its node is not here to be told. */
  readonly askToYield: (lease: GrantedLease, why: string) => boolean;
}

interface Running {
  readonly lease: GrantedLease;
  readonly demand: Demand;
  readonly sinceMs: number;
  /** By the node's speed when it was granted; null when nobody knew it. */
  readonly lastsMs: number | null;
}

/**
 * Leases that run through this process, and which of them have to make room: one lease for each job that waits with nothing of it
 * running. What is asked for ends by the normal road, or not at all: a node that does not answer keeps its lease until it is done.
 */
export class RoomMaking {
  readonly #ports: RoomMakingPorts;
  readonly #running = new Map<string, Running>();
  /** The job that each lease was asked to make room for, and when. None is asked twice. */
  readonly #asked = new Map<string, { readonly jobId: string; readonly atMs: number }>();
  readonly #yields = new Map<string, number>();

  constructor(ports: RoomMakingPorts) {
    this.#ports = ports;
  }

  began(lease: GrantedLease, demand: Demand | undefined): void {
    if (demand === undefined) return;
    const sinceMs = this.#ports.clock.nowMs();
    const model = this.#ports.candidate(lease.nodeId)?.models.find(({ digest }) => digest === lease.digest);
    const rows = lease.rowTo - lease.rowFrom;
    const lastsMs = model === undefined || model.rowsPerSecond <= 0 ? null : (rows * 1_000) / model.rowsPerSecond;
    this.#running.set(leaseKey(lease), { lease, demand, sinceMs, lastsMs });
  }

  ended(lease: LeaseRef): void {
    this.#running.delete(leaseKey(lease));
    this.#asked.delete(leaseKey(lease));
  }

  /** @param left Demand that found no room, most urgent first. */
  make(left: readonly Demand[]): void {
    const nowMs = this.#ports.clock.nowMs();
    const awaited = [...this.#asked.values()].filter(({ atMs }) => nowMs - atMs < YIELD_MS);
    const served = new Set(
      [...[...this.#running.values()].map(({ lease }) => lease), ...awaited].map(({ jobId }) => jobId),
    );
    const untold = new Set<string>();
    let room = ASKED_MAX - awaited.length;
    const waiting = left.filter(({ ask, ageMs, queued, nextRow, rowCount }) => {
      const waitedMs = nextRow < rowCount ? ageMs : Math.max(0, ...queued.map((task) => task.waitedMs ?? 0));
      return waitedMs >= WAIT_FOR_ROOM_MS && !served.has(ask.jobId);
    });
    for (const demand of waiting.slice(0, WAITING_MAX)) {
      if (room <= 0) return;
      const found = leaseToYield(standing(demand, 0), this.#candidates(untold), this.#ports.candidate);
      const running = found === null ? undefined : this.#running.get(found.leaseId);
      if (found === null || running === undefined) continue;
      if (!this.#ports.askToYield(running.lease, MADE_ROOM)) {
        untold.add(found.leaseId);
        continue;
      }
      room -= 1;
      this.#asked.set(found.leaseId, { jobId: demand.ask.jobId, atMs: nowMs });
      this.#count(running.lease.jobId);
    }
  }

  *#candidates(untold: ReadonlySet<string>): Generator<RunningLease> {
    const nowMs = this.#ports.clock.nowMs();
    for (const [leaseId, { lease, demand, sinceMs, lastsMs }] of this.#running) {
      if (this.#asked.has(leaseId) || untold.has(leaseId)) continue;
      const runningMs = nowMs - sinceMs;
      yield {
        ...standing(demand, runningMs),
        leaseId,
        nodeId: lease.nodeId,
        rows: lease.rowTo - lease.rowFrom,
        runningMs,
        leftMs: lastsMs === null ? null : Math.max(0, lastsMs - runningMs),
        yields: this.#yields.get(lease.jobId) ?? 0,
      };
    }
  }

  #count(jobId: string): void {
    const before = this.#yields.get(jobId) ?? 0;
    this.#yields.delete(jobId);
    this.#yields.set(jobId, before + 1);
    const oldest = this.#yields.keys().next();
    if (this.#yields.size > COUNTED_MAX && oldest.done !== true) this.#yields.delete(oldest.value);
  }
}

/** A job as it stands so long after its demand was read. */
function standing({ ask, ageMs, priority = 0 }: Demand, passedMs: number): JobStanding {
  return { ask: { ...ask, deadlineInMs: ask.deadlineInMs - passedMs }, ageMs: ageMs + passedMs, priority };
}
