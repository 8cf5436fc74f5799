import type { Amount } from '../units/units.ts';

/** So long delivered work without a signature counts: whoever never signs gets a node's limit once in that time. */
export const UNSIGNED_KEPT_MS = 7 * 24 * 3_600_000;
/**
 * Leases and chats of one coordinator that may wait for its signature, whatever they are worth: what is remembered stays small.
 * Nothing new is taken at that number; should more come from what was in hand then, the oldest make room.
 */
export const UNSIGNED_LEASES_MAX = 10_000;

/** One lease (or chat) whose rows the coordinator has, under the node's signature. */
export interface UnsignedLease {
  readonly task: string;
  readonly coordinator: string;
  /** At the lease's own rates, before any fee. */
  readonly amount: Amount;
  readonly atMs: number;
}

/**
 * Work that a node delivered and that nobody signed for. Promises that are signed and not paid are another matter: those can be
 * cashed. What is unsigned is lost when the coordinator never signs, so a node bounds it.
 */
export class UnsignedWork {
  readonly #leases = new Map<string, UnsignedLease>();

  constructor(leases: Iterable<UnsignedLease> = []) {
    for (const lease of leases) this.add(lease);
  }

  /** More rows of a known task raise its amount; nothing lowers it but a signature or time. False when nothing changed. */
  add(lease: UnsignedLease): boolean {
    const known = this.#leases.get(lease.task);
    if (lease.amount <= (known?.amount ?? 0n)) return false;
    this.#leases.set(lease.task, lease);
    if (this.#leases.size <= UNSIGNED_LEASES_MAX) return true;
    const [oldest, ...rest] = this.#of(lease.coordinator);
    if (oldest !== undefined && rest.length >= UNSIGNED_LEASES_MAX) this.#leases.delete(oldest.task);
    return true;
  }

  find(task: string): UnsignedLease | undefined {
    return this.#leases.get(task);
  }

  /** A good voucher for the task is on the disk. False when it was not waited for. */
  signed(task: string): boolean {
    return this.#leases.delete(task);
  }

  /** Drops what is older than {@link UNSIGNED_KEPT_MS}. */
  forget(nowMs: number): boolean {
    const old = [...this.#leases.values()].filter(({ atMs }) => atMs <= nowMs - UNSIGNED_KEPT_MS);
    for (const { task } of old) this.#leases.delete(task);
    return old.length > 0;
  }

  /** Worth of one coordinator's unsigned leases, those in `but` left out: whoever asks counts them as they are now. */
  owed(coordinator: string, but: ReadonlySet<string> = new Set()): Amount {
    return this.#of(coordinator).reduce((sum, { task, amount }) => (but.has(task) ? sum : sum + amount), 0n);
  }

  count(coordinator: string): number {
    return this.#of(coordinator).length;
  }

  get all(): readonly UnsignedLease[] {
    return [...this.#leases.values()];
  }

  #of(coordinator: string): UnsignedLease[] {
    return this.all.filter((lease) => lease.coordinator === coordinator);
  }
}
