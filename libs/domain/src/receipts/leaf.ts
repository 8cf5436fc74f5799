import { DomainError } from '../errors.ts';

export const LEAF_VERSION = 1;

export const FINISH_REASONS = ['stop', 'length', 'embedding', 'error'] as const;
export type FinishReason = (typeof FINISH_REASONS)[number];

/** What a provider commits to for one row: what went in, what came out as the model's own numbers, and the units it counted. */
export interface LeafContent {
  /** 32 bytes: the task's id left-padded, as in every signed message. */
  readonly taskId: Uint8Array;
  readonly rowNo: number;
  /** sha256 over the canonical JSON of the row's work. */
  readonly inputHash: Uint8Array;
  /** Token ids of a text, or the values of a vector. Text itself is derived, and checked by the auditor. */
  readonly output: { readonly tokens: readonly number[] } | { readonly vector: Float32Array };
  readonly finish: FinishReason;
  readonly unitsIn: number;
  readonly unitsOut: number;
}

/** Leaf v1: u16 version ‖ task id ‖ u32 rowNo ‖ sha256(input) ‖ u32 n ‖ (u32le token ids | f32le vector) ‖ u8 finish ‖ u32 units in ‖ u32 units out. Headers big endian. */
export function encodeLeaf(leaf: LeafContent): Uint8Array {
  if (leaf.taskId.length !== 32)
    throw new DomainError({ code: 'LEAF_TASK_ID', expected: 32, bytes: leaf.taskId.length });
  if (leaf.inputHash.length !== 32)
    throw new DomainError({ code: 'LEAF_INPUT_HASH', expected: 32, bytes: leaf.inputHash.length });
  const items = 'tokens' in leaf.output ? leaf.output.tokens.length : leaf.output.vector.length;
  const bytes = new Uint8Array(2 + 32 + 4 + 32 + 4 + items * 4 + 1 + 4 + 4);
  const view = new DataView(bytes.buffer);
  let at = 0;
  view.setUint16(at, LEAF_VERSION);
  bytes.set(leaf.taskId, (at += 2));
  view.setUint32((at += 32), leaf.rowNo);
  bytes.set(leaf.inputHash, (at += 4));
  view.setUint32((at += 32), items);
  at += 4;
  const body = at;
  if ('tokens' in leaf.output) leaf.output.tokens.forEach((token, no) => view.setUint32(body + 4 * no, token, true));
  else leaf.output.vector.forEach((value, no) => view.setFloat32(body + 4 * no, value, true));
  at += 4 * items;
  view.setUint8(at, FINISH_REASONS.indexOf(leaf.finish));
  view.setUint32((at += 1), leaf.unitsIn);
  view.setUint32(at + 4, leaf.unitsOut);
  return bytes;
}
