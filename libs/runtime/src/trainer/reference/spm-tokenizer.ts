import { TrainerError } from '@freehold/market/trainer';
import type { GgufValue } from './read-gguf.ts';

/** What stands for a space inside pieces. */
const SPACE = '\u2581';
/** llama.cpp's kinds of pieces that plain text can never become. */
const CONTROL_KINDS = new Set<unknown>([2, 3, 5]);
/** Chunks remembered at most: running text repeats few, and hostile text must not fill the memory. */
const REMEMBERED_MAX = 100_000;

/**
 * llama.cpp's SPM tokeniser: neighbouring pieces are merged, best score first and leftmost among equals, until no merge is
 * in the vocabulary; what remains outside it becomes its UTF-8 bytes. No space is put in front, as the engine puts none
 * between a chat's marks and its texts.
 */
export class SpmTokenizer {
  readonly bos: string;
  readonly eos: string;
  /** No token stands for more of a text than this. */
  readonly pieceCharsMax: number;
  readonly #pieces: readonly string[];
  readonly #scores: readonly number[];
  readonly #plain = new Map<string, number>();
  readonly #control = new Map<string, number>();
  readonly #unknown: number;
  /** No piece holds a space but at its front: a text can then be cut before each. */
  readonly #cutsAtSpaces: boolean;
  readonly #memory = new Map<string, readonly number[]>();

  private constructor(
    metadata: ReadonlyMap<string, GgufValue>,
    pieces: readonly string[],
    scores: readonly number[],
    kinds: readonly unknown[],
  ) {
    this.#pieces = pieces;
    this.#scores = scores;
    this.pieceCharsMax = pieces.reduce((longest, piece) => Math.max(longest, piece.length), 1);
    pieces.forEach((piece, id) => (CONTROL_KINDS.has(kinds[id]) ? this.#control : this.#plain).set(piece, id));
    const id = (name: string): number => Number(metadata.get(`tokenizer.ggml.${name}_token_id`) ?? 0);
    this.bos = pieces[id('bos')] ?? '';
    this.eos = pieces[id('eos')] ?? '';
    this.#unknown = id('unknown');
    this.#cutsAtSpaces = !pieces.some((piece) => piece.lastIndexOf(SPACE) > 0);
  }

  /** @throws {TrainerError} When the file holds another kind of tokeniser. */
  static of(metadata: ReadonlyMap<string, GgufValue>): SpmTokenizer {
    const [model, pieces, scores, kinds] = ['model', 'tokens', 'scores', 'token_type'].map((key) =>
      metadata.get(`tokenizer.ggml.${key}`),
    );
    const fits =
      Array.isArray(pieces) && Array.isArray(scores) && Array.isArray(kinds) && pieces.length === scores.length;
    if (model !== 'llama' || !fits)
      throw new TrainerError(
        'plan_unsupported',
        `The base's tokeniser is ${String(model)}; the reference trainer reads SPM ("llama").`,
        false,
      );
    return new SpmTokenizer(metadata, pieces.map(String), scores.map(Number), kinds);
  }

  /** Ids of a text in which marks such as `<s>` are control pieces. */
  encodeMarks(text: string): number[] {
    const marks = [...this.#control.keys()].filter((mark) => mark !== '').sort((a, b) => b.length - a.length);
    const ids: number[] = [];
    let plainFrom = 0;
    for (let at = 0; at < text.length;) {
      const mark = marks.find((each) => text.startsWith(each, at));
      if (mark === undefined) {
        at += 1;
        continue;
      }
      ids.push(...this.encode(text.slice(plainFrom, at)), this.#control.get(mark) ?? this.#unknown);
      at += mark.length;
      plainFrom = at;
    }
    return [...ids, ...this.encode(text.slice(plainFrom))];
  }

  isControl(id: number): boolean {
    return this.#control.has(this.#pieces[id] ?? '');
  }

  /** Ids of plain text: a mark written out in it is text. */
  encode(text: string): number[] {
    if (text === '') return [];
    const spaced = text.replaceAll(' ', SPACE);
    const chunks = this.#cutsAtSpaces ? spaced.split(new RegExp(`(?=${SPACE})`, 'u')) : [spaced];
    return chunks.flatMap((chunk) => {
      const known = this.#memory.get(chunk);
      if (known !== undefined) return known;
      const ids = this.#encodeChunk(chunk);
      if (this.#memory.size < REMEMBERED_MAX) this.#memory.set(chunk, ids);
      return ids;
    });
  }

  #encodeChunk(chunk: string): number[] {
    const parts = [...chunk];
    for (;;) {
      let best = -1;
      let bestScore = -Infinity;
      for (let i = 0; i + 1 < parts.length; i += 1) {
        const id = this.#plain.get(`${parts[i]}${parts[i + 1]}`);
        const score = id === undefined ? -Infinity : (this.#scores[id] ?? -Infinity);
        if (id !== undefined && score > bestScore) {
          best = i;
          bestScore = score;
        }
      }
      if (best < 0) break;
      parts.splice(best, 2, `${parts[best]}${parts[best + 1]}`);
    }
    return parts.flatMap((part) => {
      const id = this.#plain.get(part);
      return id === undefined ? [...Buffer.from(part, 'utf8')].map((byte) => this.#byteId(byte)) : [id];
    });
  }

  #byteId(byte: number): number {
    const name = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
    return this.#plain.get(name) ?? this.#plain.get(String.fromCharCode(byte)) ?? this.#unknown;
  }
}
