import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { stateHash } from '@freehold/protocol';
import { readSafetensors } from '../../../../models/freehold-tiny/index.mjs';
import { littleEndian } from './reference/training-state.ts';

type Tensors = ReturnType<typeof readSafetensors>['tensors'];

/**
 * L2 distance between the adapters of two checkpoints over the norm of the second; null when the first is no checkpoint of the
 * same shape, or does not hold the state that was committed with it: whoever goes on from it would start from another one.
 * Of the rest only weights count: moments differ more between two honest runs, and nobody is served by them.
 */
export async function weightsDistance(
  committed: { readonly path: string; readonly state: string },
  own: string,
): Promise<number | null> {
  const expected = weightsOf((await readCheckpoint(own))?.tensors ?? []);
  const checkpoint = await readCheckpoint(committed.path);
  if (checkpoint?.state !== committed.state) return null;
  const found = weightsOf(checkpoint.tensors);
  if (expected.size === 0 || found.size !== expected.size) return null;
  let difference = 0;
  let norm = 0;
  for (const [name, weights] of expected) {
    const other = found.get(name);
    if (other === undefined || other.length !== weights.length) return null;
    for (let at = 0; at < weights.length; at += 1) {
      const weight = weights[at] ?? 0;
      difference += ((other[at] ?? 0) - weight) ** 2;
      norm += weight ** 2;
    }
  }
  return Math.sqrt(difference) / Math.max(Math.sqrt(norm), Number.MIN_VALUE);
}

/** A checkpoint's tensors and the hash of the state that they are; null for a file that is none. */
async function readCheckpoint(path: string): Promise<{ readonly state: string; readonly tensors: Tensors } | null> {
  const bytes = await readFile(path);
  try {
    const { metadata, tensors } = readSafetensors(bytes);
    const state = stateHash(
      Number(metadata['step']),
      tensors.map(({ name, shape, data }) => ({ name, shape, data: littleEndian(data) })),
      createHash('sha256'),
    );
    return { state, tensors };
  } catch {
    // A stranger's file: whatever is wrong with it, it is no checkpoint, and the caller says so.
    return null;
  }
}

/** The adapter's tensors, without their moments. */
function weightsOf(tensors: Tensors): ReadonlyMap<string, Float32Array> {
  return new Map(
    tensors.filter(({ name }) => /^(?!adamw\.).*\.lora_[ab]$/.test(name)).map(({ name, data }) => [name, data]),
  );
}
