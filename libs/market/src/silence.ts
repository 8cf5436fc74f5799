import type { MonotonicClock } from './ports/surroundings.ts';

/** Who was asked and gave no whole answer is asked after everybody else for so long, and gets no new work: it has no time. */
export const AUDIT_REST_MS = 15_000;

/** Who left every audit of so long a time unanswered is nobody's auditor: no verdict waits for it. */
export const MUTE_AFTER_MS = 600_000;
/** No fewer than so many. Of those that come within one rest a single one counts: they were asked together. */
const MUTE_AUDITS_MIN = 5;
/**
 * And no further apart: what lies between them must have been asked for as well. Longer than a silent audit, the pause of the queue
 * after it and a place at its auditor take together.
 */
export const SILENCE_GAP_MS = 240_000;
/** For so long. */
export const MUTE_MS = 3_600_000;

interface Silent {
  readonly audits: number;
  /** When the last of them was counted. */
  readonly countedMs: number;
  readonly fromMs: number;
  readonly lastMs: number;
}

/** Who did not answer a moment ago, and who answers no audit at all. */
export class Silence {
  readonly #clock: MonotonicClock;
  readonly #restUntil = new Map<string, number>();
  /** Nodes whose last audits are all unanswered. */
  readonly #silent = new Map<string, Silent>();

  constructor(clock: MonotonicClock) {
    this.#clock = clock;
  }

  /** It gave no whole answer, for whatever reason. */
  unanswered(nodeId: string): void {
    const nowMs = this.#clock.nowMs();
    for (const [id, untilMs] of this.#restUntil) if (untilMs <= nowMs) this.#restUntil.delete(id);
    this.#restUntil.set(nodeId, nowMs + AUDIT_REST_MS);
  }

  /** Nor a reason that an honest node may have for as long as it likes. */
  missed(nodeId: string): void {
    if (this.isMute(nodeId)) return;
    const nowMs = this.#clock.nowMs();
    for (const [id, { lastMs }] of this.#silent) if (nowMs - lastMs > MUTE_MS) this.#silent.delete(id);
    const known = this.#silent.get(nodeId);
    if (known === undefined || nowMs - known.lastMs > SILENCE_GAP_MS) {
      this.#silent.set(nodeId, { audits: 1, countedMs: nowMs, fromMs: nowMs, lastMs: nowMs });
      return;
    }
    const counts = nowMs - known.countedMs >= AUDIT_REST_MS;
    const audits = counts ? known.audits + 1 : known.audits;
    this.#silent.set(nodeId, { ...known, audits, countedMs: counts ? nowMs : known.countedMs, lastMs: nowMs });
  }

  answered(nodeId: string): void {
    this.#silent.delete(nodeId);
  }

  /** It is asked after everybody else. */
  rests(nodeId: string): boolean {
    return (this.#restUntil.get(nodeId) ?? 0) > this.#clock.nowMs();
  }

  /** It is not asked, nor waited for. */
  isMute(nodeId: string): boolean {
    const known = this.#silent.get(nodeId);
    if (known === undefined || known.audits < MUTE_AUDITS_MIN || known.lastMs - known.fromMs < MUTE_AFTER_MS)
      return false;
    if (this.#clock.nowMs() - known.lastMs < MUTE_MS) return true;
    this.#silent.delete(nodeId);
    return false;
  }
}
