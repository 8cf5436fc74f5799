import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { keccak_256 } from '@noble/hashes/sha3.js';
import { DomainError } from '../errors.ts';

const LABEL = new TextEncoder().encode('freehold/audit/v1');
const TWO_64 = 1n << 64n;

/** seed = keccak(hash of block h+1 ‖ secret ‖ root): nobody knew all three when the provider signed the root. */
export function drawSeed(blockHash: Uint8Array, secret: Uint8Array, root: Uint8Array): Uint8Array {
  return keccak_256.create().update(blockHash).update(secret).update(root).digest();
}

/**
 * `count` distinct rows of `rows`, in the order drawn.
 *
 * HMAC-SHA256(seed, label ‖ u64be(counter)) gives four u64 per block; values at or above 2^64 − (2^64 mod rows) are
 * rejected so that every row is equally likely; duplicates are skipped. Anyone with the seed repeats this.
 */
export function drawRows(seed: Uint8Array, rows: number, count: number): number[] {
  if (!Number.isInteger(rows) || rows < 0) throw new DomainError({ code: 'DRAW_ROWS', rows });
  if (!Number.isInteger(count) || count < 0 || count > rows) throw new DomainError({ code: 'DRAW_COUNT', count, rows });
  const drawn = new Set<number>();
  const modulus = BigInt(rows);
  const limit = rows === 0 ? 0n : TWO_64 - (TWO_64 % modulus);
  for (let counter = 0n; drawn.size < count; counter += 1n) {
    const block = new DataView(hmac(sha256, seed, withCounter(counter)).slice().buffer);
    for (let word = 0; word < 4 && drawn.size < count; word += 1) {
      const value = block.getBigUint64(word * 8);
      if (value < limit) drawn.add(Number(value % modulus));
    }
  }
  return [...drawn];
}

function withCounter(counter: bigint): Uint8Array {
  const message = new Uint8Array(LABEL.length + 8);
  message.set(LABEL);
  new DataView(message.buffer).setBigUint64(LABEL.length, counter);
  return message;
}
