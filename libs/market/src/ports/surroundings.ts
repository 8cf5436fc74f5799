/** Unpredictable bytes: nonces, ids. */
export abstract class Entropy {
  abstract bytes(length: number): Uint8Array;
}

/** A clock that never jumps, for cool-downs and rates in memory. State is timed by the database, never by this. */
export abstract class MonotonicClock {
  abstract nowMs(): number;
}
