import type { Ask } from './ask.ts';
import type { Choice, PlacementIndex, TaskClass } from './placement-index/placement-index.ts';

/** Work of several members that starts together or not at all. */
export interface Gang {
  readonly gangId: string;
  /** Of each member. */
  readonly ask: Ask;
  readonly members: number;
}

/** Work that holds room now and will give it back. */
export interface RunningWork {
  readonly task: TaskClass;
  readonly choice: Choice;
  readonly endsAtMs: number;
}

/** Nodes kept for a gang until it starts or its time is up. `explain` shows it: a slot that stands idle has a name on it. */
export interface Reservation {
  readonly gangId: string;
  readonly nodes: readonly number[];
  readonly startsAtMs: number;
  readonly expiresAtMs: number;
}

export type GangOutcome =
  | { readonly placed: readonly Choice[] }
  | { readonly reserved: Reservation }
  /** 'nodes-reserved': others' reservations stand where it would fit; 'its-turn': its own has just expired, see {@link GangDesk}. */
  | { readonly waits: 'reservations-full' | 'nodes-reserved' | 'its-turn' }
  | { readonly refused: 'never-fits' };

/** Gangs that may hold nodes at once: each idles nodes, so only the first few in turn do. */
export const RESERVATIONS_MAX = 8;
/** A reservation outlives the estimate of its start by this much; then its nodes are everybody's again. */
export const RESERVATION_GRACE_MS = 60_000;
/** Running work looked at to find when a gang can start. */
const RUNNING_MAX = 10_000;

/** Takes room for every member, or for none. */
export function takeGang(index: PlacementIndex, task: TaskClass, members: number): readonly Choice[] | null {
  const taken: Choice[] = [];
  while (taken.length < members) {
    const choice = index.best(task);
    if (choice === null) {
      for (const one of taken.reverse()) index.give(task, one);
      return null;
    }
    index.take(task, choice);
    taken.push(choice);
  }
  return taken;
}

/**
 * Gangs: placed whole, or given a reservation on the nodes that are free first, under which shorter work may run until then.
 *
 * A gang comes back with every round. Its reservation is not prolonged: after its time the nodes are released, and for as long as
 * it held them it gets no other, so that nodes stand idle for a gang half of the time at most, however wrong the estimates are.
 */
export class GangDesk {
  readonly #index: PlacementIndex;
  readonly #reservations = new Map<string, Reservation>();
  /** When each reservation began to hold its nodes. */
  readonly #heldFromMs = new Map<string, number>();
  /** Gangs whose reservation expired: until when they get no other. */
  readonly #restsUntilMs = new Map<string, number>();

  constructor(index: PlacementIndex) {
    this.#index = index;
  }

  reservations(): readonly Reservation[] {
    return [...this.#reservations.values()];
  }

  place(gang: Gang, running: readonly RunningWork[], nowMs: number): GangOutcome {
    this.expire(nowMs);
    const task = this.#index.classOf(gang.ask);
    const known = this.#reservations.get(gang.gangId);
    if (known !== undefined) this.#release(known);
    const placed = takeGang(this.#index, task, gang.members);
    if (placed !== null) {
      this.#heldFromMs.delete(gang.gangId);
      this.#restsUntilMs.delete(gang.gangId);
      return { placed };
    }
    if (known !== undefined) return { reserved: this.#hold(known) };
    const start = this.#earliestStart(gang, task, running, nowMs);
    if (start === null)
      return this.#everFits(gang, task, running) ? { waits: 'nodes-reserved' } : { refused: 'never-fits' };
    if (this.#restsUntilMs.has(gang.gangId)) return { waits: 'its-turn' };
    if (this.#reservations.size >= RESERVATIONS_MAX) return { waits: 'reservations-full' };
    const expiresAtMs = start.startsAtMs + RESERVATION_GRACE_MS;
    this.#heldFromMs.set(gang.gangId, nowMs);
    return { reserved: this.#hold({ gangId: gang.gangId, ...start, expiresAtMs }) };
  }

  /** Whether it would fit if nobody else had anything. */
  #everFits(gang: Gang, task: TaskClass, running: readonly RunningWork[]): boolean {
    const others = this.reservations();
    for (const reservation of others) this.#release(reservation);
    for (const work of running) this.#index.give(work.task, work.choice);
    const choices = takeGang(this.#index, task, gang.members);
    for (const choice of choices ?? []) this.#index.give(task, choice);
    for (const work of [...running].reverse()) this.#index.take(work.task, work.choice);
    for (const reservation of others) this.#hold(reservation);
    return choices !== null;
  }

  /** Room for other work: on nodes nobody reserved, else under a reservation that starts after the work is over. */
  backfill(ask: Ask, durationMs: number, nowMs: number): Choice | null {
    const task = this.#index.classOf(ask);
    const open = this.#index.best(task);
    if (open !== null) return open;
    const lent = this.reservations().filter(({ startsAtMs }) => nowMs + durationMs <= startsAtMs);
    for (const reservation of lent) this.#release(reservation);
    const choice = this.#index.best(task);
    for (const reservation of lent) this.#hold(reservation);
    return choice;
  }

  /** Ends reservations whose time is up. */
  expire(nowMs: number): void {
    for (const [gangId, untilMs] of this.#restsUntilMs) if (untilMs <= nowMs) this.#restsUntilMs.delete(gangId);
    for (const reservation of this.reservations()) {
      if (reservation.expiresAtMs > nowMs) continue;
      this.#release(reservation);
      const heldMs = nowMs - (this.#heldFromMs.get(reservation.gangId) ?? nowMs);
      this.#heldFromMs.delete(reservation.gangId);
      this.#restsUntilMs.set(reservation.gangId, nowMs + heldMs);
    }
  }

  #hold(reservation: Reservation): Reservation {
    this.#reservations.set(reservation.gangId, reservation);
    for (const node of reservation.nodes) this.#index.hold(node);
    return reservation;
  }

  #release(reservation: Reservation): void {
    this.#reservations.delete(reservation.gangId);
    const held = new Set(this.reservations().flatMap(({ nodes }) => nodes));
    for (const node of reservation.nodes) if (!held.has(node)) this.#index.release(node);
  }

  /** Gives back running work in the order of its end until the gang fits, notes where and when, and undoes all of it. */
  #earliestStart(
    gang: Gang,
    task: TaskClass,
    running: readonly RunningWork[],
    nowMs: number,
  ): { readonly nodes: readonly number[]; readonly startsAtMs: number } | null {
    const inOrder = [...running].sort((a, b) => a.endsAtMs - b.endsAtMs).slice(0, RUNNING_MAX);
    const given: RunningWork[] = [];
    let found: { nodes: readonly number[]; startsAtMs: number } | null = null;
    for (const work of inOrder) {
      this.#index.give(work.task, work.choice);
      given.push(work);
      const choices = takeGang(this.#index, task, gang.members);
      if (choices === null) continue;
      for (const choice of choices) this.#index.give(task, choice);
      found = {
        nodes: [...new Set(choices.map(({ node }) => node))],
        startsAtMs: Math.max(nowMs, work.endsAtMs),
      };
      break;
    }
    for (const work of given.reverse()) this.#index.take(work.task, work.choice);
    return found;
  }
}
