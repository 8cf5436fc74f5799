import { randomBytes } from 'node:crypto';
import { Entropy, MonotonicClock } from '@freehold/market';

/** The operating system's randomness. */
export class SystemEntropy extends Entropy {
  override bytes(length: number): Uint8Array {
    return randomBytes(length);
  }
}

/** `performance.now()`: milliseconds that never jump with the wall clock. */
export class SystemClock extends MonotonicClock {
  override nowMs(): number {
    return performance.now();
  }
}
