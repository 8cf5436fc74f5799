import { createHash } from 'node:crypto';
import type { CheckpointFacts } from '@freehold/market';
import { stateHash } from '@freehold/protocol/trainer';
import { readSafetensors } from '../../../../models/freehold-tiny/index.mjs';
import { littleEndian } from './reference/training-state.ts';

export type Tensors = ReturnType<typeof readSafetensors>['tensors'];

/** A checkpoint's tensors, the hash of the state that they are, and what its maker wrote of it; null for bytes that are none. */
export function readCheckpoint(bytes: Buffer): (CheckpointFacts & { readonly tensors: Tensors }) | null {
  try {
    const { metadata, tensors } = readSafetensors(bytes);
    const state = stateHash(
      Number(metadata['step']),
      tensors.map(({ name, shape, data }) => ({ name, shape, data: littleEndian(data) })),
      createHash('sha256'),
    );
    return { state, plan: metadata['plan'], base: metadata['base'], tensors };
  } catch {
    // A stranger's file: whatever is wrong with it, it is no checkpoint, and the caller says so.
    return null;
  }
}
