/** Where an id stands among others, by itself: it does not depend on who came before. */
export type TieKey = (nodeId: string) => number;

/**
 * Who comes first among nodes that are equally good: by a key of their ids, and by the ids where keys are equal. Numbers of nodes
 * are given again when nodes go, so they decide only where nobody names a key: there nodes come in an order that means something.
 */
export class NodeOrder {
  readonly #keyOf: TieKey | null;
  #keys = new Float64Array(0);
  readonly #ids: string[] = [];

  constructor(keyOf: TieKey | null) {
    this.#keyOf = keyOf;
  }

  get bytes(): number {
    return this.#keys.byteLength;
  }

  /** A number is this node's from now on. */
  note(node: number, nodeId: string): void {
    if (this.#keyOf === null) return;
    if (node >= this.#keys.length) {
      const more = new Float64Array(Math.max(node + 1, 2 * this.#keys.length));
      more.set(this.#keys);
      this.#keys = more;
    }
    this.#keys[node] = this.#keyOf(nodeId);
    this.#ids[node] = nodeId;
  }

  before(a: number, b: number): boolean {
    if (this.#keyOf === null) return a < b;
    const [keyA, keyB] = [this.#keys[a] ?? 0, this.#keys[b] ?? 0];
    return keyA === keyB ? (this.#ids[a] ?? '') < (this.#ids[b] ?? '') : keyA < keyB;
  }
}
