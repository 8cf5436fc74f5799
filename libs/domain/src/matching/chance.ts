export interface Chance {
  /** Uniform in 0..bound-1. */
  readonly below: (bound: number) => number;
  readonly pick: <T>(from: readonly T[]) => T;
  /** Uniform in [0, 1). */
  readonly unit: () => number;
}

/** Chance that a seed repeats (mulberry32). */
export function chance(seed: number): Chance {
  let state = seed >>> 0;
  const unit = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (bound: number): number => Math.floor(unit() * bound);
  const pick = <T>(from: readonly T[]): T => {
    const one = from[below(from.length)];
    if (one === undefined) throw new Error('nothing to pick from');
    return one;
  };
  return { unit, below, pick };
}
