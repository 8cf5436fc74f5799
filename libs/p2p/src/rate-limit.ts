/** A generic cell rate algorithm: `perSecond` on average, `burst` at once, one number of state. */
export class CellRate {
  readonly #emissionMs: number;
  readonly #toleranceMs: number;
  #arrivalMs = 0;

  constructor(perSecond: number, burst: number) {
    this.#emissionMs = 1_000 / perSecond;
    this.#toleranceMs = this.#emissionMs * burst;
  }

  /** Whether one more at `nowMs` conforms; only what conforms counts. */
  admits(nowMs: number): boolean {
    const arrivalMs = Math.max(this.#arrivalMs, nowMs) + this.#emissionMs;
    // The hair is for sums of fractions of milliseconds.
    if (arrivalMs - nowMs > this.#toleranceMs + 1e-6) return false;
    this.#arrivalMs = arrivalMs;
    return true;
  }

  /** Whether the state is that of a fresh limiter, so that it may be forgotten. */
  idle(nowMs: number): boolean {
    return this.#arrivalMs <= nowMs;
  }
}

/** Limiters by key, with a bound on how many are remembered: idle ones are forgotten first, then the oldest. */
export class CellRates {
  readonly #rates = new Map<string, CellRate>();
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #keysMax: number;

  constructor(perSecond: number, burst: number, keysMax: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#keysMax = keysMax;
  }

  admits(key: string, nowMs: number): boolean {
    let rate = this.#rates.get(key);
    if (rate === undefined) {
      if (this.#rates.size >= this.#keysMax) this.#forget(nowMs);
      rate = new CellRate(this.#perSecond, this.#burst);
      this.#rates.set(key, rate);
    }
    return rate.admits(nowMs);
  }

  #forget(nowMs: number): void {
    for (const [key, rate] of this.#rates) if (rate.idle(nowMs)) this.#rates.delete(key);
    const oldest = this.#rates.keys().next();
    if (this.#rates.size >= this.#keysMax && oldest.done !== true) this.#rates.delete(oldest.value);
  }
}
