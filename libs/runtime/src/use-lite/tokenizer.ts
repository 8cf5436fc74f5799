/** Pieces and their log probabilities, as the model's `vocab.json` lists them. */
export type Vocabulary = readonly (readonly [piece: string, score: number])[];

/** The first ids are control symbols, never found in text. */
const RESERVED = 6;
const UNKNOWN = 0;
const SPACE = '\u2581';

interface Node {
  readonly children: Map<string, Node>;
  id: number;
  score: number;
}

/**
 * The model's SentencePiece unigram tokeniser: the likeliest way to cut a text into pieces.
 *
 * The published package has one too, but it copies the rest of the text at every character; a row of 1 MiB would hold a
 * core for hours. This one walks a trie once per character; its tokens are the same, down to ties (the later cut wins) and
 * to unknown characters, of which a run counts as one.
 */
export class UnigramTokenizer {
  readonly #root: Node = { children: new Map(), id: UNKNOWN, score: 0 };

  constructor(vocabulary: Vocabulary) {
    vocabulary.forEach(([piece, score], id) => {
      if (id >= RESERVED) this.#insert(piece, score, id);
    });
  }

  encode(text: string): number[] {
    const normal = text.normalize('NFKC');
    if (normal.length === 0) return [];
    const symbols = [...`${SPACE}${normal.replaceAll(' ', SPACE)}`];
    const best = new Float64Array(symbols.length + 1);
    const ids = new Int32Array(symbols.length + 1);
    const lengths = new Int32Array(symbols.length + 1);
    for (let at = 0; at < symbols.length; at += 1) this.#reachFrom(at, symbols, best, ids, lengths);
    return backtrack(ids, lengths);
  }

  /** Offers every piece that begins at `at` to the position where it ends. */
  #reachFrom(at: number, symbols: readonly string[], best: Float64Array, ids: Int32Array, lengths: Int32Array): void {
    const offer = (length: number, id: number, score: number): void => {
      const end = at + length;
      const total = score + (best[at] ?? 0);
      // Zero is "not reached yet", as in the published tokeniser.
      if (best[end] !== 0 && total < (best[end] ?? 0)) return;
      best[end] = total;
      ids[end] = id;
      lengths[end] = length;
    };
    let found = false;
    let node = this.#root.children.get(symbols[at] ?? '');
    for (let length = 1; node !== undefined; length += 1) {
      if (node.id !== UNKNOWN) {
        found = true;
        offer(length, node.id, node.score);
      }
      node = node.children.get(symbols[at + length] ?? '');
    }
    if (!found) offer(1, UNKNOWN, 0);
  }

  #insert(piece: string, score: number, id: number): void {
    let node = this.#root;
    for (const symbol of piece) {
      const next = node.children.get(symbol) ?? { children: new Map<string, Node>(), id: UNKNOWN, score: 0 };
      node.children.set(symbol, next);
      node = next;
    }
    node.id = id;
    node.score = score;
  }
}

function backtrack(ids: Int32Array, lengths: Int32Array): number[] {
  const tokens: number[] = [];
  for (let end = ids.length - 1; end > 0; end -= Math.max(1, lengths[end] ?? 1)) {
    const id = ids[end] ?? UNKNOWN;
    if (id !== UNKNOWN || tokens.at(-1) !== UNKNOWN) tokens.push(id);
  }
  return tokens.reverse();
}
