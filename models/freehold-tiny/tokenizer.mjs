/**
 * freehold-tiny's tokenizer: pieces with scores, merged best score first, exactly as llama.cpp does for the SPM kind.
 *
 * No piece holds a space but at its front, so a text can be cut before each space and every cut encoded by itself (and
 * remembered). Characters outside the vocabulary become their UTF-8 bytes.
 */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const SPECIALS = ['<unk>', '<s>', '</s>', '<|user|>', '<|assistant|>', '<|system|>'];
export const UNKNOWN = 0;
export const BEGIN = 1;
export const END = 2;
export const USER = 3;
export const ASSISTANT = 4;
export const SYSTEM = 5;

/** What stands for a space inside pieces, as the GGUF vocabulary wants it. */
export const SPACE = '\u2581';

/** Half a surrogate pair, U+DC80 to U+DCFF, stands for one raw byte: only the corpus uses it, to train every byte piece. */
const RAW_BYTE = 0xdc00;

/** Chunks remembered at most: running text repeats few, and hostile text must not fill the memory. */
const REMEMBERED_MAX = 200_000;

export class Tokenizer {
  /** @type {Map<string, number>} */
  #ids = new Map();
  /** @type {Map<string, number[]>} */
  #memory = new Map();

  /** @param {{ readonly pieces: readonly string[]; readonly mergesFrom: number }} model As in tokenizer.json; piece `<0xHH>` is a byte. */
  constructor(model) {
    const { pieces, mergesFrom } = model;
    if (!Array.isArray(pieces) || !Number.isInteger(mergesFrom) || mergesFrom > pieces.length) {
      throw new Error('tokenizer.json: expected `pieces`, and in `mergesFrom` the place of the first merged one.');
    }
    this.pieces = pieces;
    // Merges stand in the order they were learned: the earlier one wins.
    this.scores = pieces.map((_, id) => (id < mergesFrom ? 0 : mergesFrom - id - 1));
    pieces.forEach((piece, id) => this.#ids.set(piece, id));
    SPECIALS.forEach((piece, id) => {
      if (this.#ids.get(piece) !== id) throw new Error(`tokenizer.json: expected piece ${id} to be ${piece}.`);
    });
  }

  /**
   * Ids of plain text; control pieces written out in it are text, not control.
   *
   * @param {string} text
   */
  encode(text) {
    /** @type {number[]} */
    const out = [];
    for (const chunk of text.replaceAll(SPACE, ' ').split(/(?= )/)) {
      let ids = this.#memory.get(chunk);
      if (ids === undefined) {
        ids = this.#encodeChunk(chunk);
        if (this.#memory.size < REMEMBERED_MAX) this.#memory.set(chunk, ids);
      }
      for (const id of ids) out.push(id);
    }
    return out;
  }

  /** @param {string} chunk */
  #encodeChunk(chunk) {
    const parts = Array.from(chunk.replace(/ /g, SPACE));
    for (;;) {
      let best = -1;
      let bestScore = -Infinity;
      for (let i = 0; i + 1 < parts.length; i++) {
        const id = this.#ids.get(parts[i] + parts[i + 1]);
        if (id !== undefined && id >= SPECIALS.length && this.scores[id] > bestScore) {
          best = i;
          bestScore = this.scores[id];
        }
      }
      if (best < 0) break;
      parts.splice(best, 2, parts[best] + parts[best + 1]);
    }
    return parts.flatMap((part) => {
      const id = this.#ids.get(part);
      if (id !== undefined && id >= SPECIALS.length) return [id];
      const unit = part.charCodeAt(0);
      const bytes =
        part.length === 1 && unit >= RAW_BYTE + 0x80 && unit <= RAW_BYTE + 0xff
          ? [unit - RAW_BYTE]
          : Buffer.from(part, 'utf8');
      return [...bytes].map(
        (byte) => this.#ids.get(bytePiece(byte)) ?? this.#ids.get(String.fromCharCode(byte)) ?? UNKNOWN,
      );
    });
  }

  /**
   * Text of ids; control pieces are left out.
   *
   * @param {Iterable<number>} ids
   */
  decode(ids) {
    const bytes = [];
    for (const id of ids) {
      const piece = this.pieces[id];
      if (piece === undefined || id < SPECIALS.length) continue;
      const byte = /^<0x([0-9A-F]{2})>$/.exec(piece);
      if (byte) bytes.push(Number.parseInt(byte[1], 16));
      else bytes.push(...Buffer.from(piece.replaceAll(SPACE, ' '), 'utf8'));
    }
    return Buffer.from(bytes).toString('utf8');
  }
}

export const bytePiece = (/** @type {number} */ byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

/** Reads tokenizer.json beside this file. */
export function loadTokenizer() {
  return new Tokenizer(JSON.parse(readFileSync(fileURLToPath(new URL('./tokenizer.json', import.meta.url)), 'utf8')));
}
