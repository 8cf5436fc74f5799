import { sha256 } from '@noble/hashes/sha2.js';
import { hex } from './plan.ts';

const STATE_LABEL = 'freehold training state v1\n';

/** One tensor of a training state; `data` is little-endian F32. */
export interface StateTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** A sha256 that takes bytes as they come; the runtime's own is many times as fast as one in JavaScript. */
export interface ByteHash {
  update(bytes: Uint8Array): unknown;
  digest(): Uint8Array;
}

/**
 * sha256 over a training state: a label, u64le steps done, then every tensor in the order of its name (by code unit):
 * u32le length of the name ‖ name ‖ u32le dimensions ‖ u64le each ‖ little-endian data.
 *
 * A state is the adapter's weights, the optimizer's moments and the step: all that the next step depends on.
 *
 * @param hash A new sha256.
 */
export function stateHash(step: number, tensors: readonly StateTensor[], hash: ByteHash = sha256.create()): string {
  hash.update(new TextEncoder().encode(STATE_LABEL));
  hash.update(u64(step));
  const ordered = [...tensors].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  for (const { name, shape, data } of ordered) {
    hash.update(headOf(name, shape));
    hash.update(data);
  }
  return hex(hash.digest());
}

/** In one piece: a state has hundreds of tensors, and a call into the runtime's hash costs more than the bytes of a head. */
function headOf(name: string, shape: readonly number[]): Uint8Array {
  const label = new TextEncoder().encode(name);
  const head = new Uint8Array(4 + label.length + 4 + 8 * shape.length);
  const view = new DataView(head.buffer);
  view.setUint32(0, label.length, true);
  head.set(label, 4);
  view.setUint32(4 + label.length, shape.length, true);
  shape.forEach((size, at) => view.setBigUint64(8 + label.length + 8 * at, BigInt(size), true));
  return head;
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}
