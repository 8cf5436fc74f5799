import type { MonotonicClock } from './ports/surroundings.ts';

/** Whatever a node offers: each may hold the rows of a lease here for as long as an audit may take. */
export const AUDITS_AT_ONCE_MAX = 8;
/** Where no audit began or ended for so long, nobody waits for a place. */
export const STUCK_MS = 5_000;

interface Desk {
  taken: number;
  /** When an audit last began or ended. */
  movedMs: number;
  readonly line: ((hasPlace: boolean) => void)[];
}

/**
 * How many audits an auditor has at once: as many as it runs rows, since more would wait for its slots until it calls itself busy. Others
 * wait in line while it gets on; where it does not, they are told at once, so that whoever answers nothing holds up a few verdicts alone.
 */
export class AuditPlaces {
  readonly #clock: MonotonicClock;
  readonly #desks = new Map<string, Desk>();

  constructor(clock: MonotonicClock) {
    this.#clock = clock;
  }

  isFull(nodeId: string, places: number): boolean {
    return (this.#desks.get(nodeId)?.taken ?? 0) >= mostOf(places);
  }

  /** True: one more place is taken, to be given back by {@link leave}. */
  async take(nodeId: string, places: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    const nowMs = this.#clock.nowMs();
    const desk = this.#desks.get(nodeId) ?? { taken: 0, movedMs: nowMs, line: [] };
    this.#desks.set(nodeId, desk);
    if (desk.taken < mostOf(places)) {
      desk.taken += 1;
      desk.movedMs = nowMs;
      return true;
    }
    if (nowMs - desk.movedMs >= STUCK_MS) return false;
    return new Promise((resolve) => {
      const told = (hasPlace: boolean): void => {
        signal.removeEventListener('abort', leaves);
        resolve(hasPlace);
      };
      const leaves = (): void => {
        desk.line.splice(desk.line.indexOf(told), 1);
        told(false);
      };
      signal.addEventListener('abort', leaves, { once: true });
      desk.line.push(told);
    });
  }

  leave(nodeId: string): void {
    const desk = this.#desks.get(nodeId);
    if (desk === undefined) return;
    desk.movedMs = this.#clock.nowMs();
    const next = desk.line.shift();
    if (next !== undefined) return next(true);
    desk.taken -= 1;
    if (desk.taken === 0) this.#desks.delete(nodeId);
  }

  /** Sends away who waits where nothing moves; to be called every second or so. */
  look(): void {
    const nowMs = this.#clock.nowMs();
    for (const { movedMs, line } of this.#desks.values())
      if (nowMs - movedMs >= STUCK_MS) for (const told of line.splice(0)) told(false);
  }
}

function mostOf(places: number): number {
  return Math.max(1, Math.min(places, AUDITS_AT_ONCE_MAX));
}
