import {
  ATTEMPTS_MAX,
  canBeginNow,
  isStraggler,
  LEASES_AHEAD,
  STRAGGLER_MS,
  YIELD_FLOOR_MS,
  yieldWithinMs,
  type Ask,
  type Candidate,
  type Demand,
} from '@freehold/domain';
import { leaseKey, type LeaseRef } from '@freehold/protocol';
import type { GrantedLease, LeaseStore } from './ports/lease-store.ts';
import type { RowsEnd } from './ports/provider-link.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** Why a node was asked, in words for its owner and for the lease's record. */
export const STRAGGLED = 'its rows took far longer than others of the job, and somebody was free to do the rest';
/** Nodes are looked through once in so long. */
const LOOK_EVERY_MS = 1_000;
/** Nodes that were asked and have not ended their leases yet; after this long one is taken for deaf and counts no more. */
const ASKED_MAX = 8;
const DEAF_MS = 15_000;
/** A lease whose stream broke is streamed again within seconds while its node is there; after this long it is over, or another's. */
const CUT_MAX_MS = 60_000;
/**
 * Rows that so many nodes kept one after the other are left where they are: each time counts as an attempt, and rows that fail after
 * too many of them may be long wherever they run.
 */
export const KEPT_MAX = ATTEMPTS_MAX / 2;
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
  /** Signed: what its node delivers and never signs for is not done. */
  rowsDone: number;
  lastRowMs: number;
  /** Since when nothing streams it; null: it is streamed. */
  cutAtMs: number | null;
}

interface Asked {
  readonly atMs: number;
  /** Rows that were signed by then. */
  readonly rowsDone: number;
  /** The node whose place is meant for the rest. */
  readonly forNode: string;
}

interface Late {
  readonly lease: GrantedLease;
  readonly ask: Ask;
  readonly rowsDone: number;
  /** How long its node has to hand it back. */
  readonly withinMs: number;
}

interface Rows {
  readonly from: number;
  readonly to: number;
}

/** What is known of a job's rows. */
interface JobPace {
  /** Rows done under ended leases, and how long they took, by node. */
  readonly byNode: Map<string, { rows: number; ms: number }>;
  /** Rows whose node was asked and handed them back, or signed on: once each, so that rows which are long wherever they run are not passed around. */
  readonly handedOn: Rows[];
  /** Rows that were asked for and taken back: whoever has them next was asked for nothing yet. */
  readonly kept: Rows[];
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
    this.#running.set(leaseKey(lease), { lease, demand, sinceMs, rowsDone: 0, lastRowMs: sinceMs, cutAtMs: null });
  }

  /** Its stream broke, and there is another: how long its node has it is as before. */
  resumed(lease: LeaseRef): void {
    const running = this.#running.get(leaseKey(lease));
    if (running !== undefined) running.cutAtMs = null;
  }

  /** Its node signed for so many more of its rows. */
  signed(lease: LeaseRef, rows: number): void {
    const running = this.#running.get(leaseKey(lease));
    if (running === undefined) return;
    running.rowsDone += rows;
    running.lastRowMs = this.#ports.clock.nowMs();
  }

  /** Its stream is over. After a cut the lease goes on under its clock, and perhaps over another stream. */
  ended(lease: LeaseRef, { end }: Pick<RowsEnd, 'end'>): void {
    const running = this.#running.get(leaseKey(lease));
    if (running === undefined) return;
    if (end === 'cut') running.cutAtMs = this.#ports.clock.nowMs();
    else this.#over(running, end === 'yielded' || end === 'refused');
  }

  /**
   * It was taken back, or is no more.
   *
   * @returns whether its node kept it against a request, had its time, and signed nothing since.
   */
  lost(lease: LeaseRef): boolean {
    const running = this.#running.get(leaseKey(lease));
    const askedMs = this.#asked.get(leaseKey(lease))?.atMs ?? Number.POSITIVE_INFINITY;
    const isKept = running !== undefined && this.#over(running, false);
    // Sooner it is lost for another reason: its job was cancelled.
    return isKept && this.#ports.clock.nowMs() - askedMs >= YIELD_FLOOR_MS;
  }

  /** @returns whether it was asked for, and nothing came of it. */
  #over({ lease, rowsDone, lastRowMs, sinceMs }: Running, isHandedBack: boolean): boolean {
    const name = leaseKey(lease);
    const asked = this.#asked.get(name);
    this.#forget(name);
    const isKept = asked !== undefined && !isHandedBack && rowsDone === asked.rowsDone;
    const { byNode, handedOn, kept } = this.#paceOf(lease.jobId);
    if (asked !== undefined) (isKept ? kept : handedOn).push({ from: lease.rowFrom, to: lease.rowTo });
    const { nodeId } = lease;
    if (rowsDone > 0 && (byNode.has(nodeId) || byNode.size < NODES_MAX)) {
      const known = byNode.get(nodeId) ?? { rows: 0, ms: 0 };
      byNode.set(nodeId, { rows: known.rows + rowsDone, ms: known.ms + lastRowMs - sinceMs });
    }
    return isKept;
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
    this.#forgetCut(nowMs);
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
      this.#asked.set(leaseKey(lease), { atMs: nowMs, rowsDone: one.rowsDone, forNode: seat.nodeId });
      asked.push(one);
    }
    return asked;
  }

  /** Without it nothing holds the node to its word: the lease is asked for again. */
  async #write({ lease, withinMs }: Late): Promise<void> {
    try {
      const { moved } = await this.#ports.leases.yieldWithin(lease, withinMs);
      // Cut, and over: its stream will not say so.
      if (!moved && this.#running.get(leaseKey(lease))?.cutAtMs !== null) this.#forget(leaseKey(lease));
    } catch (error) {
      this.#asked.delete(leaseKey(lease));
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
      late.push({ lease, rowsDone, ask: { ...ask, deadlineInMs: ask.deadlineInMs - runningMs }, withinMs });
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
    const isOf = ({ from, to }: Rows): boolean => rowFrom < to && rowTo > from;
    const { handedOn = [], kept = [] } = this.#jobs.get(jobId) ?? {};
    return handedOn.some(isOf) || kept.filter(isOf).length >= KEPT_MAX;
  }

  #forgetCut(nowMs: number): void {
    for (const [name, { cutAtMs }] of this.#running) {
      if (cutAtMs !== null && nowMs - cutAtMs >= CUT_MAX_MS) this.#forget(name);
    }
  }

  #forget(name: string): void {
    this.#running.delete(name);
    this.#asked.delete(name);
  }

  #paceOf(jobId: string): JobPace {
    const known: JobPace = this.#jobs.get(jobId) ?? {
      byNode: new Map<string, { rows: number; ms: number }>(),
      handedOn: [],
      kept: [],
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
