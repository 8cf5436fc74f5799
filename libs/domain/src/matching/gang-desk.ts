import type { Ask, Candidate } from './ask.ts';
import { obstacle, takesWork } from './constraints.ts';
import { memberAsk } from './gangs.ts';
import { measuredRows } from './task-size.ts';
import { loadSeconds, servedModel } from './served-model.ts';

/** Gangs that may hold nodes at once: each idles nodes, so only the first few in turn do. */
export const RESERVATIONS_MAX = 8;
/** A reservation outlives the estimate of its start by this much, some tasks' time; then its nodes are everybody's again. */
export const RESERVATION_GRACE_MS = 30_000;
/** Nodes are not kept for a start that is further off: they would stand idle beside work that nobody has measured. */
export const RESERVATION_AHEAD_MAX_MS = 120_000;
/** A gang that got no nodes is looked at again so much later. */
export const RETRY_MS = 5_000;
/** Under a reservation work is lent this much of the time until its start: what takes longer than it was measured to is over in time. */
const LENT_SHARE = 0.75;

/** Nodes kept for a gang until it begins or its time is up. `explain` shows it: a slot that stands idle has a name on it. */
export interface Reservation {
  readonly jobId: string;
  readonly nodeIds: readonly string[];
  /** By the expected ends of what runs there. */
  readonly startsAtMs: number;
  readonly expiresAtMs: number;
}

/** What a decision knows of the time, on one clock that never goes back. */
export interface Moment {
  readonly nowMs: number;
  /** Until a node's leases are over, as far as anybody can tell. */
  readonly freeInMs: (node: Candidate) => number;
  /** Whether a job still waits to begin. */
  readonly waits: (jobId: string) => boolean;
}

interface Held extends Reservation {
  readonly fromMs: number;
  /** The nodes that its gang is about to begin on; null while it waits. */
  readonly beginsOn: ReadonlySet<string> | null;
}

const NOTHING: ReadonlySet<string> = new Set();

/**
 * Which nodes are kept for gangs that cannot begin yet: those that are free first. A gang comes back with every decision; its
 * reservation is not prolonged. A node that was kept in vain, because the time was up or the gang went away, is kept for no gang for as
 * long again: so it stands idle for gangs at most half of the time, however wrong the estimates, and whoever submits and cancels.
 */
export class GangDesk {
  readonly #held = new Map<string, Held>();
  /** Gangs that got no nodes: until when they are not looked at again, so that those behind them are, and each at a bounded cost. */
  readonly #failedUntilMs = new Map<string, number>();
  /** Nodes that were kept in vain: until when they are kept for nobody. */
  readonly #restsUntilMs = new Map<string, number>();

  reservations(): readonly Reservation[] {
    return [...this.#held.values()];
  }

  of(jobId: string): Reservation | undefined {
    return this.#held.get(jobId);
  }

  /** Ends what is over: reservations whose time is up, or whose gangs wait no more. */
  expire({ nowMs, waits }: Moment): void {
    for (const [nodeId, untilMs] of this.#restsUntilMs) if (untilMs <= nowMs) this.#restsUntilMs.delete(nodeId);
    for (const [jobId, untilMs] of this.#failedUntilMs) if (untilMs <= nowMs) this.#failedUntilMs.delete(jobId);
    for (const { jobId, expiresAtMs } of this.#held.values())
      if (expiresAtMs <= nowMs || !waits(jobId)) this.end(jobId, nowMs);
  }

  /** A gang is to begin on these nodes, or on none after all: until that is written, and it waits no more, they stay its own. */
  begins(jobId: string, beginsOn: ReadonlySet<string> | null): void {
    const held = this.#held.get(jobId);
    if (held !== undefined) this.#held.set(jobId, { ...held, beginsOn });
  }

  /** Nothing is kept for a gang any more. What was kept in vain rests. */
  end(jobId: string, nowMs: number): void {
    const held = this.#held.get(jobId);
    if (held === undefined) return;
    this.#held.delete(jobId);
    this.#rest(held, held.beginsOn ?? NOTHING, nowMs);
  }

  #rest({ nodeIds, fromMs }: Held, used: ReadonlySet<string>, nowMs: number): void {
    for (const nodeId of nodeIds)
      if (!used.has(nodeId) && nowMs > fromMs) this.#restsUntilMs.set(nodeId, 2 * nowMs - fromMs);
  }

  /** Whether a gang is to be looked at: a try costs a walk over all nodes. */
  mayTry(jobId: string): boolean {
    return !this.#failedUntilMs.has(jobId);
  }

  /** Keeps the nodes that are free first, unless enough gangs have some, too few are left to keep, or the last of them is free too late; null then. */
  reserve(ask: Ask, members: number, nodes: Iterable<Candidate>, moment: Moment): Reservation | null {
    const { nowMs, freeInMs } = moment;
    const known = this.#held.get(ask.jobId);
    if (known === undefined && this.#held.size >= RESERVATIONS_MAX) return null;
    const kept = new Set(
      [...this.#held.values()].flatMap(({ jobId, nodeIds }) => (jobId === ask.jobId ? [] : nodeIds)),
    );
    const able: { readonly nodeId: string; readonly freeInMs: number }[] = [];
    for (const node of nodes) {
      const isOwn = known?.nodeIds.includes(node.nodeId) === true;
      if (kept.has(node.nodeId) || (!isOwn && this.#restsUntilMs.has(node.nodeId))) continue;
      if (couldJoin(ask, node)) able.push({ nodeId: node.nodeId, freeInMs: freeInMs(node) });
    }
    if (able.length < members) return this.#fails(ask.jobId, nowMs);
    able.sort((a, b) => a.freeInMs - b.freeInMs || (a.nodeId < b.nodeId ? -1 : 1));
    const startsInMs = able[members - 1]?.freeInMs ?? 0;
    if (startsInMs > RESERVATION_AHEAD_MAX_MS) return this.#fails(ask.jobId, nowMs);
    const startsAtMs = nowMs + startsInMs;
    const nodeIds = able.slice(0, members).map(({ nodeId }) => nodeId);
    // Mended, it ends when it would have: its time is counted from its first node.
    const until = {
      fromMs: known?.fromMs ?? nowMs,
      expiresAtMs: known?.expiresAtMs ?? startsAtMs + RESERVATION_GRACE_MS,
    };
    const made: Held = {
      jobId: ask.jobId,
      nodeIds,
      startsAtMs: Math.min(startsAtMs, until.expiresAtMs),
      ...until,
      beginsOn: null,
    };
    if (known !== undefined) this.#rest(known, new Set(nodeIds), nowMs);
    this.#held.set(ask.jobId, made);
    return made;
  }

  #fails(jobId: string, nowMs: number): null {
    this.#failedUntilMs.set(jobId, nowMs + RETRY_MS);
    return null;
  }
}

/** Whether a node could be a member once its leases are over. */
export function couldJoin(ask: Ask, node: Candidate): boolean {
  return takesWork(node) && obstacle(memberAsk(ask), { ...node, leasesActive: 0, rowsUnaccepted: 0 }) === null;
}

/**
 * Rows of other work that are over on a kept node before its gang begins, by its measured speed; none where nobody has measured it, or
 * where it is not idle.
 */
export function rowsUnder({ startsAtMs }: Reservation, ask: Ask, node: Candidate, nowMs: number): number {
  const model = servedModel(ask, node);
  if (model === undefined || node.leasesActive > 0) return 0;
  const ms = (startsAtMs - nowMs) * LENT_SHARE - loadSeconds(model) * 1_000;
  const perMs = measuredRows(node, model, 1_000_000);
  return ms > 0 && perMs !== null ? Math.floor((perMs / 1_000_000) * ms) : 0;
}
