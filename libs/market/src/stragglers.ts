import {
  canBeginNow,
  isStraggler,
  LEASES_AHEAD,
  STRAGGLER_MS,
  yieldWithinMs,
  type Ask,
  type Candidate,
  type Demand,
} from '@freehold/domain';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import type { GrantedLease, LeaseStore } from './ports/lease-store.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** Why a node was asked, in words for its owner and for the lease's record. */
export const STRAGGLED = 'its rows took far longer than others of the job, and somebody was free to do the rest';
/** Nodes are looked through once in so long. */
const LOOK_EVERY_MS = 1_000;
/** Nodes that were asked and have not ended their leases yet; after this long one is taken for deaf and counts no more. */
const ASKED_MAX = 8;
const DEAF_MS = 15_000;
/** Of one look: late leases, and nodes with a place. */
const LATE_MAX = 64;
const FREE_MAX = 256;
/** Jobs whose pace is known, and nodes of each; with more, the oldest are forgotten. */
const JOBS_MAX = 10_000;
const NODES_MAX = 16;

export interface StragglersPorts {
  readonly leases: Pick<LeaseStore, 'yieldWithin'>;
  readonly clock: MonotonicClock;
  /** False when its node is not here to be told. */
  readonly askToYield: (lease: GrantedLease, why: string) => boolean;
}

interface Running {
  readonly lease: GrantedLease;
  readonly demand: Demand;
  readonly sinceMs: number;
  rowsDone: number;
  lastRowMs: number;
}

interface Asked {
  readonly atMs: number;
  /** The node whose place is meant for the rest. */
  readonly forNode: string;
}

interface Late {
  readonly lease: GrantedLease;
  readonly ask: Ask;
  /** How long its node has to hand it back. */
  readonly withinMs: number;
}

/** What is known of a job's rows. */
interface JobPace {
  /** Rows done under ended leases, and how long they took, by node. */
  readonly byNode: Map<string, { rows: number; ms: number }>;
  /** Rows that were handed on: once each, so that rows which are long wherever they run are not passed around. */
  handedOn: { readonly from: number; readonly to: number }[];
}

/**
 * Leases that keep their jobs from ending although somebody else could do the rest: their nodes are asked to yield, as for work of
 * higher value. What they signed for is kept and paid, the rest is leased again. No row is worked on twice at one time, so
 * nobody's work is thrown away. Only for jobs of which nothing waits any more: until then a slow node does no harm.
 *
 * Until when a node has to hand them back is written to the lease, which is extended no longer: whoever reaps leases then takes
 * back what it kept. A death between the word and the write leaves an honest node's rows handed back, and another's as they were.
 */
export class Stragglers {
  readonly #ports: StragglersPorts;
  readonly #running = new Map<string, Running>();
  readonly #asked = new Map<string, Asked>();
  readonly #jobs = new Map<string, JobPace>();
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(ports: StragglersPorts) {
    this.#ports = ports;
  }

  /** Whether leases run that might be late, and were not looked at a moment ago. */
  get isDue(): boolean {
    return this.#running.size > 0 && this.#ports.clock.nowMs() - this.#lookedAtMs >= LOOK_EVERY_MS;
  }

  began(lease: GrantedLease, demand: Demand | undefined): void {
    // A run of segments has the node's trainer to itself, and nobody else's segments tell how long one takes.
    if (demand === undefined || demand.isRun === true) return;
    const sinceMs = this.#ports.clock.nowMs();
    this.#running.set(leaseKey(lease), { lease, demand, sinceMs, rowsDone: 0, lastRowMs: sinceMs });
  }

  /** So many more of its rows are here. */
  progressed(lease: LeaseRef, rows: number): void {
    const running = this.#running.get(leaseKey(lease));
    if (running === undefined) return;
    running.rowsDone += rows;
    running.lastRowMs = this.#ports.clock.nowMs();
  }

  ended(lease: LeaseRef): void {
    const name = leaseKey(lease);
    const running = this.#running.get(name);
    this.#running.delete(name);
    this.#asked.delete(name);
    if (running === undefined || running.rowsDone === 0) return;
    const { byNode } = this.#paceOf(running.lease.jobId);
    const { nodeId } = running.lease;
    const known = byNode.get(nodeId) ?? { rows: 0, ms: 0 };
    if (!byNode.has(nodeId) && byNode.size >= NODES_MAX) return;
    const ms = known.ms + running.lastRowMs - running.sinceMs;
    byNode.set(nodeId, { rows: known.rows + running.rowsDone, ms });
  }

  /**
   * Asks the nodes of late leases, at most one for each free place: at once, so that what it was told of nodes and leases is still so.
   * What is written of it after that may wait for rows that others hold: no decision needs it.
   *
   * @param isOpen Whether rows of the job wait for a lease.
   */
  async relieve(isOpen: (jobId: string) => boolean, nodes: () => Iterable<Candidate>): Promise<void> {
    const nowMs = this.#ports.clock.nowMs();
    if (nowMs - this.#lookedAtMs < LOOK_EVERY_MS) return;
    this.#lookedAtMs = nowMs;
    const asked = this.#ask(nowMs, isOpen, nodes);
    const ends = await Promise.allSettled(asked.map((late) => this.#write(late)));
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  #ask(nowMs: number, isOpen: (jobId: string) => boolean, nodes: () => Iterable<Candidate>): Late[] {
    const pending = [...this.#asked.values()].filter(({ atMs }) => nowMs - atMs < DEAF_MS);
    const late = pending.length < ASKED_MAX ? this.#late(nowMs, isOpen) : [];
    if (late.length === 0) return [];
    const free = firstOf(FREE_MAX, nodes(), ({ leasesActive }) => leasesActive < LEASES_AHEAD);
    const promised = new Map<string, number>();
    for (const { forNode } of pending) promised.set(forNode, (promised.get(forNode) ?? 0) + 1);
    const asked: Late[] = [];
    for (const one of late) {
      if (pending.length + asked.length >= ASKED_MAX) break;
      const { lease, ask } = one;
      const seat = free.find(
        (node) => node.nodeId !== lease.nodeId && canBeginNow(ask, node, promised.get(node.nodeId) ?? 0),
      );
      if (seat === undefined || !this.#ports.askToYield(lease, STRAGGLED)) continue;
      promised.set(seat.nodeId, (promised.get(seat.nodeId) ?? 0) + 1);
      this.#asked.set(leaseKey(lease), { atMs: nowMs, forNode: seat.nodeId });
      this.#paceOf(lease.jobId).handedOn.push({ from: lease.rowFrom, to: lease.rowTo });
      asked.push(one);
    }
    return asked;
  }

  /** Without it nothing holds the node to its word: the lease is asked for again. */
  async #write({ lease, withinMs }: Late): Promise<void> {
    try {
      await this.#ports.leases.yieldWithin(lease, withinMs);
    } catch (error) {
      this.#asked.delete(leaseKey(lease));
      const pace = this.#paceOf(lease.jobId);
      pace.handedOn = pace.handedOn.filter(({ from }) => from !== lease.rowFrom);
      throw error;
    }
  }

  /** Late leases of jobs of which nothing waits, the ones that run longest first; with what is asked of a node as of now. */
  #late(nowMs: number, isOpen: (jobId: string) => boolean): Late[] {
    const late: Late[] = [];
    for (const [name, { lease, demand, sinceMs, rowsDone }] of this.#running) {
      const runningMs = nowMs - sinceMs;
      // In the order in which they began: those that follow are younger.
      if (runningMs < STRAGGLER_MS || late.length >= LATE_MAX) break;
      if (this.#asked.has(name) || isOpen(lease.jobId) || this.#wasHandedOn(lease)) continue;
      const pace = { rows: lease.rowTo - lease.rowFrom, rowsDone, runningMs };
      const elsewhereMs = this.#elsewhereMs(lease);
      if (elsewhereMs === null || !isStraggler(pace, elsewhereMs)) continue;
      // What loading the model was worth when the lease was granted is of no use here: a node has it loaded, or is left alone.
      const { loadGainS: _, ...ask } = demand.ask;
      const withinMs = yieldWithinMs(pace.rows - rowsDone, elsewhereMs);
      late.push({ lease, ask: { ...ask, deadlineInMs: ask.deadlineInMs - runningMs }, withinMs });
    }
    return late;
  }

  /** Milliseconds of a row of this job on other nodes; null when none was done there. */
  #elsewhereMs({ jobId, nodeId }: GrantedLease): number | null {
    let [rows, ms] = [0, 0];
    for (const [id, done] of this.#jobs.get(jobId)?.byNode ?? []) {
      if (id === nodeId) continue;
      rows += done.rows;
      ms += done.ms;
    }
    return rows === 0 ? null : ms / rows;
  }

  #wasHandedOn({ jobId, rowFrom, rowTo }: GrantedLease): boolean {
    return this.#jobs.get(jobId)?.handedOn.some(({ from, to }) => rowFrom < to && rowTo > from) ?? false;
  }

  #paceOf(jobId: string): JobPace {
    const known: JobPace = this.#jobs.get(jobId) ?? {
      byNode: new Map<string, { rows: number; ms: number }>(),
      handedOn: [],
    };
    this.#jobs.delete(jobId);
    this.#jobs.set(jobId, known);
    const oldest = this.#jobs.keys().next();
    if (this.#jobs.size > JOBS_MAX && oldest.done !== true) this.#jobs.delete(oldest.value);
    return known;
  }
}

function firstOf<T>(most: number, all: Iterable<T>, isWanted: (one: T) => boolean): T[] {
  const found: T[] = [];
  for (const one of all) {
    if (found.length >= most) break;
    if (isWanted(one)) found.push(one);
  }
  return found;
}
