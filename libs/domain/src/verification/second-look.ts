import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';

/**
 * One passed lease in so many is looked at by somebody else as well, and one request for an audit in so many holds a row that was made
 * wrong on purpose. Both cost one more look at a few rows, about 6 % of all audits: an auditor that looks at nothing keeps
 * its place for 16 audits on average, and is out for a day then.
 */
export const SECOND_LOOK_ONE_IN = 16;
/** Of a lease with many drawn rows the first ones are enough: the draw is random already. */
export const SECOND_LOOK_ROWS_MAX = 8;

/**
 * The drawn rows that a second auditor looks at though the first finds them good: none, in most leases. Follows from the seed of the
 * draw, of which neither the provider nor the auditor knows the coordinator's part.
 */
export function secondLook(seed: Uint8Array, drawn: readonly number[]): readonly number[] {
  return isHit(seed, 'freehold/second-look/v1') ? drawn.slice(0, SECOND_LOOK_ROWS_MAX) : [];
}

/** Whether what this auditor is asked about a lease holds a row with a wrong answer. */
export function isTested(seed: Uint8Array, auditor: string): boolean {
  return isHit(seed, `freehold/test-row/v1 ${auditor}`);
}

function isHit(seed: Uint8Array, label: string): boolean {
  const [byte = 0] = hmac(sha256, seed, new TextEncoder().encode(label));
  return byte % SECOND_LOOK_ONE_IN === 0;
}
