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
  return blocksOf(salt, scope, promptText(parts), PROMPT_BLOCKS_MAX);
}

/** Of the beginning that a batch's prompts share: as much as the longest instructions that anybody writes. */
export const SHARED_BLOCKS_MAX = 16;
const SHARED_CHARS_MAX = SHARED_BLOCKS_MAX * PROMPT_BLOCK_BYTES;
/** No character of a text takes more bytes. */
const CHARACTER_BYTES_MAX = 3;

/** What all prompts of a batch begin with: whoever has computed it for one row need not for the next. */
export class SharedBeginning {
  #text: string | null = null;

  /** @param parts Of one row's prompt, as {@link promptBlocks} takes them. */
  add(parts: readonly string[]): void {
    if (this.#text === '') return;
    const text = promptText(parts).slice(0, SHARED_CHARS_MAX);
    const shared = this.#text === null ? text : text.slice(0, sharedLength(this.#text, text));
    this.#text = shared.length * CHARACTER_BYTES_MAX < PROMPT_BLOCK_BYTES ? '' : shared;
  }

  /** Names of its full blocks, which whoever makes them with the same scope and salt makes as well. */
  blocks(salt: Uint8Array, scope: readonly string[]): readonly string[] {
    return this.#text === null ? [] : blocksOf(salt, scope, this.#text, SHARED_BLOCKS_MAX);
  }
}

function sharedLength(a: string, b: string): number {
  if (b.startsWith(a)) return a.length;
  let at = 0;
  while (at < a.length && a.charCodeAt(at) === b.charCodeAt(at)) at += 1;
  return at;
}

/** Each part's length behind it: parts that begin alike are alike up to where they differ, however long they are. */
function promptText(parts: readonly string[]): string {
  return parts.map((part) => `${part}\n${part.length}\n`).join('');
}

function blocksOf(salt: Uint8Array, scope: readonly string[], prompt: string, max: number): readonly string[] {
  const text = new TextEncoder().encode(prompt);
  const count = Math.min(max, Math.floor(text.length / PROMPT_BLOCK_BYTES));
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
