import { toHex } from './hex.ts';
import type { Entropy } from './ports/surroundings.ts';

const TIME_HEX = 12;
const RANDOM_BYTES = 8;

/**
 * Ids that begin with their millisecond: a batch's rows and tasks stand in the store's indexes by its id, those of today behind those
 * of yesterday, where ids at random would have each batch open pages in the middle of all others. Nothing rests on an id's
 * being hard to guess.
 */
export function batchId(entropy: Entropy, nowMs: number): string {
  return `batch_${Math.trunc(nowMs).toString(16).padStart(TIME_HEX, '0')}${toHex(entropy.bytes(RANDOM_BYTES)).slice(2)}`;
}
