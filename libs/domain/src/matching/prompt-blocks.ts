import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';

/** Bytes of one block: about 512 tokens. What a shorter beginning saves, nobody would notice. */
export const PROMPT_BLOCK_BYTES = 2_048;
/** Text of a usual language has so many bytes in a token. */
const BYTES_PER_TOKEN = 4;
/** Of one prompt: bounds what is hashed while a requester waits to 256 KiB, a few milliseconds. */
const PROMPT_BLOCKS_MAX = 128;
export const PROMPT_BLOCK_TOKENS = PROMPT_BLOCK_BYTES / BYTES_PER_TOKEN;
const NAME_BYTES = 16;

/**
 * Names of the full blocks of a prompt, each standing for all text up to its end: two prompts share names exactly as far as they begin
 * alike. Whoever does not have the salt can tell nothing from them, and under another `scope` the same text has other names.
 *
 * @param scope Whose prompt it is, and what computes it.
 */
export function promptBlocks(salt: Uint8Array, scope: readonly string[], parts: readonly string[]): readonly string[] {
  const text = new TextEncoder().encode(parts.map((part) => `${part.length}:${part}`).join(''));
  const count = Math.min(PROMPT_BLOCKS_MAX, Math.floor(text.length / PROMPT_BLOCK_BYTES));
  if (count === 0) return [];
  let name = sha256
    .create()
    .update(salt)
    .update(new TextEncoder().encode(JSON.stringify(scope)))
    .digest();
  return Array.from({ length: count }, (_, i) => {
    name = sha256
      .create()
      .update(name)
      .update(text.subarray(i * PROMPT_BLOCK_BYTES, (i + 1) * PROMPT_BLOCK_BYTES))
      .digest();
    return bytesToHex(name.subarray(0, NAME_BYTES));
  });
}
