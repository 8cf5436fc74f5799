import { sha256 } from '@noble/hashes/sha2.js';

/** `fh_` and 256 random bits in base64url. Only the sha-256 is stored: whoever reads the database cannot use it. */
export const API_KEY_PATTERN = /^fh_[A-Za-z0-9_-]{43}$/;
export const API_KEY_BYTES = 32;

/** What a key may do. `all` is every scope. */
export const SCOPES = ['all', 'inference', 'batches', 'fine-tuning', 'files', 'models', 'market', 'keys'] as const;
export type Scope = (typeof SCOPES)[number];

export function apiKeyOf(random: Uint8Array): string {
  if (random.length !== API_KEY_BYTES)
    throw new RangeError(`an API key needs ${API_KEY_BYTES} random bytes, got ${random.length}`);
  return `fh_${Buffer.from(random).toString('base64url')}`;
}

export function apiKeyHash(key: string): Uint8Array {
  return sha256(new TextEncoder().encode(key));
}

/** Enough to tell keys apart in a list, too little to guess one: `fh_Ab1…9xYz`. */
export function apiKeyHint(key: string): string {
  return `${key.slice(0, 6)}…${key.slice(-4)}`;
}
