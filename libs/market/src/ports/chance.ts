/** Randomness that nobody can foresee. A port, so that tests and the simulator can repeat a run. */
export abstract class Chance {
  abstract bytes(count: number): Uint8Array;
  /** Uniform in [0, bound). */
  abstract below(bound: number): number;
}
