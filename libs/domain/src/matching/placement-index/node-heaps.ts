import type { NodeOrder } from './node-order.ts';
import { grown } from './node-table.ts';

const NONE = -1;

/**
 * Sets of nodes that each know their first, all in three typed arrays: pairing heaps in the order of the nodes, which every
 * node is in at most once. Joining costs O(1), leaving O(log n) amortised, wherever in its heap the node stands.
 */
export class NodeHeaps {
  readonly #order: NodeOrder;
  #child: Int32Array;
  #next: Int32Array;
  /** The parent of a first child, the sibling before any other; {@link NONE} at a root. */
  #before: Int32Array;

  constructor(nodesMax: number, order: NodeOrder) {
    this.#order = order;
    this.#child = new Int32Array(nodesMax).fill(NONE);
    this.#next = new Int32Array(nodesMax).fill(NONE);
    this.#before = new Int32Array(nodesMax).fill(NONE);
  }

  get bytes(): number {
    return this.#child.byteLength * 3;
  }

  /** Numbers up to this one have room from now on. */
  makeRoom(nodesMax: number): void {
    const known = this.#child.length;
    if (nodesMax <= known) return;
    this.#child = grown(this.#child, new Int32Array(nodesMax).fill(NONE, known));
    this.#next = grown(this.#next, new Int32Array(nodesMax).fill(NONE, known));
    this.#before = grown(this.#before, new Int32Array(nodesMax).fill(NONE, known));
  }

  /** Joins a lone `node` to the heap at `root` (-1: empty); returns the new root. */
  join(root: number, node: number): number {
    return root === NONE ? node : this.#meld(root, node);
  }

  /** Takes `node` out of the heap at `root`; returns the new root, -1 when it is empty. */
  leave(root: number, node: number): number {
    const rest = this.#pair(this.#child[node] ?? NONE);
    this.#child[node] = NONE;
    if (node === root) return rest;
    const before = this.#before[node] ?? NONE;
    const next = this.#next[node] ?? NONE;
    if (this.#child[before] === node) this.#child[before] = next;
    else this.#next[before] = next;
    if (next !== NONE) this.#before[next] = before;
    this.#next[node] = NONE;
    this.#before[node] = NONE;
    return rest === NONE ? root : this.#meld(root, rest);
  }

  #meld(a: number, b: number): number {
    const [root, under] = this.#order.before(a, b) ? [a, b] : [b, a];
    const first = this.#child[root] ?? NONE;
    this.#next[under] = first;
    this.#before[under] = root;
    if (first !== NONE) this.#before[first] = under;
    this.#child[root] = under;
    return root;
  }

  /** Melds a list of siblings into one heap: in pairs from the left, then all from the right. */
  #pair(first: number): number {
    let pairs = NONE;
    for (let at = first; at !== NONE;) {
      const a = at;
      const b = this.#next[a] ?? NONE;
      at = b === NONE ? NONE : (this.#next[b] ?? NONE);
      this.#cut(a);
      if (b !== NONE) this.#cut(b);
      const melded = b === NONE ? a : this.#meld(a, b);
      this.#next[melded] = pairs;
      pairs = melded;
    }
    let root = NONE;
    for (let at = pairs; at !== NONE;) {
      const next = this.#next[at] ?? NONE;
      this.#cut(at);
      root = root === NONE ? at : this.#meld(root, at);
      at = next;
    }
    return root;
  }

  #cut(node: number): void {
    this.#next[node] = NONE;
    this.#before[node] = NONE;
  }
}
