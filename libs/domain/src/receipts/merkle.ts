import { sha256 } from '@noble/hashes/sha2.js';

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** sha256 of 0x00 ‖ leaf (RFC 6962, section 2.1): a leaf can never be mistaken for an inner node. */
export function leafHash(leaf: Uint8Array): Uint8Array {
  return sha256.create().update(LEAF).update(leaf).digest();
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256.create().update(NODE).update(left).update(right).digest();
}

/**
 * A Merkle tree of RFC 6962 that only grows: the root after n leaves never changes when more follow, which is what makes
 * a checkpoint binding. Keeps one hash per perfect subtree, so adding is O(1) amortised and memory is O(log n).
 */
export class GrowingTree {
  #perfect: { size: number; hash: Uint8Array }[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(leaf: Uint8Array): void {
    this.addHash(leafHash(leaf));
  }

  addHash(hash: Uint8Array): void {
    let right = { size: 1, hash };
    for (let left = this.#perfect.at(-1); left !== undefined && left.size === right.size; left = this.#perfect.at(-1)) {
      this.#perfect.pop();
      right = { size: left.size * 2, hash: nodeHash(left.hash, right.hash) };
    }
    this.#perfect.push(right);
    this.#size += 1;
  }

  /** The root over the leaves added so far; of no leaves it is sha256 of nothing. */
  root(): Uint8Array {
    const last = this.#perfect.at(-1);
    if (last === undefined) return sha256(new Uint8Array());
    let root = last.hash;
    for (let i = this.#perfect.length - 2; i >= 0; i -= 1) root = nodeHash(at(this.#perfect, i).hash, root);
    return root;
  }
}

/** The root over hashed leaves. */
export function rootOf(leafHashes: readonly Uint8Array[]): Uint8Array {
  const tree = new GrowingTree();
  for (const hash of leafHashes) tree.addHash(hash);
  return tree.root();
}

/** The audit path of leaf `index` among `leafHashes` (RFC 6962, section 2.1.1), nearest sibling first. */
export function inclusionPath(leafHashes: readonly Uint8Array[], index: number): Uint8Array[] {
  if (!Number.isInteger(index) || index < 0 || index >= leafHashes.length)
    throw new RangeError(`leaf ${index} of ${leafHashes.length}`);
  if (leafHashes.length === 1) return [];
  const split = largestPowerOfTwoBelow(leafHashes.length);
  return index < split
    ? [...inclusionPath(leafHashes.slice(0, split), index), rootOf(leafHashes.slice(split))]
    : [...inclusionPath(leafHashes.slice(split), index - split), rootOf(leafHashes.slice(0, split))];
}

/** Whether `leafHashed` stands at `index` of the `size` leaves under `root` (RFC 9162, section 2.1.3.2). */
export function isIncluded(
  leafHashed: Uint8Array,
  index: number,
  size: number,
  path: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (index < 0 || index >= size) return false;
  let node = index;
  let last = size - 1;
  let hash = leafHashed;
  for (const sibling of path) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(sibling, hash);
      while (node % 2 === 0 && node !== 0) {
        node = Math.floor(node / 2);
        last = Math.floor(last / 2);
      }
    } else {
      hash = nodeHash(hash, sibling);
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && sameBytes(hash, root);
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function largestPowerOfTwoBelow(n: number): number {
  let power = 1;
  while (power * 2 < n) power *= 2;
  return power;
}

function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new RangeError(`index ${index} of ${items.length}`);
  return item;
}
