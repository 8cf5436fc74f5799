import { keepNewest } from '@freehold/domain';
import type { MonotonicClock } from './ports/surroundings.ts';

/** A node that refused, or broke off before its first word, is asked after all others for so long, and for twice as long each time. */
export const REFUSED_REST_MS = 1_000;
export const REFUSED_REST_MAX_MS = 300_000;
/** Whoever owes a first word for so long is asked after all others until it comes: the next requester need not wait as well. */
export const FIRST_WORD_MS = 5_000;
/** As many as a process connects to. */
const NODES_MAX = 8_192;

/** One request that a node was asked for. */
export interface StreamTry {
  /** Its first word came: some of the answer, not a frame with nothing in it. */
  readonly spoke: () => void;
  /** Its whole answer came, and holds. */
  readonly answered: () => void;
  /**
   * It is over.
   *
   * @param isRefused The node gave nothing, or what does not hold; who was given up before its first word, after a while, refused as well.
   */
  readonly ended: (isRefused: boolean) => void;
}

interface Tried {
  /** Refusals since its last whole answer: a first word alone costs it nothing. */
  refusals: number;
  untilMs: number;
  /** When those were asked that owe their first word. */
  readonly owed: Set<{ readonly sinceMs: number }>;
}

/**
 * How requests fared that nodes were asked for a moment ago, as this process sees it. What a node says of its room and its price is
 * its own word, and there are few tries for a request: some that refuse everything, or say nothing, would else be asked first for ever.
 */
export class StreamTries {
  readonly #clock: MonotonicClock;
  readonly #tried = new Map<string, Tried>();

  constructor(clock: MonotonicClock) {
    this.#clock = clock;
  }

  asks(nodeId: string): StreamTry {
    const tried = this.#tried.get(nodeId) ?? { refusals: 0, untilMs: Number.NEGATIVE_INFINITY, owed: new Set() };
    keepNewest(this.#tried, nodeId, tried, NODES_MAX);
    const owed = { sinceMs: this.#clock.nowMs() };
    tried.owed.add(owed);
    return {
      spoke: () => void tried.owed.delete(owed),
      answered: () => {
        tried.owed.delete(owed);
        tried.refusals = 0;
      },
      ended: (isRefused) => {
        const isOwing = tried.owed.delete(owed) && this.#clock.nowMs() - owed.sinceMs >= FIRST_WORD_MS;
        if (!isRefused && !isOwing) return;
        const restMs = Math.min(REFUSED_REST_MAX_MS, REFUSED_REST_MS * 2 ** Math.min(tried.refusals, 16));
        // Several that it refuses at once are one refusal.
        if (this.#clock.nowMs() < tried.untilMs) return;
        tried.refusals += 1;
        tried.untilMs = this.#clock.nowMs() + restMs;
      },
    };
  }

  /** Whether a node is to be asked after all others. */
  readonly isResting = (nodeId: string): boolean => {
    const tried = this.#tried.get(nodeId);
    if (tried === undefined) return false;
    const nowMs = this.#clock.nowMs();
    return nowMs < tried.untilMs || [...tried.owed].some(({ sinceMs }) => nowMs - sinceMs >= FIRST_WORD_MS);
  };
}
