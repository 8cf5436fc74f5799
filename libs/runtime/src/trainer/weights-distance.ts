import { readFile } from 'node:fs/promises';
import type { SegmentWork } from '@freehold/protocol';
import { readCheckpoint, type Tensors } from './read-checkpoint.ts';
import { initialA } from './reference/initial-state.ts';

type Weights = ReadonlyMap<string, Float32Array>;

/** Further apart than any forger, and still a number that can be written down: what a segment that moves nothing divides by is 0. */
const DISTANCE_MAX = 1e9;

/**
 * How far two runs of one segment lie apart: L2 distance of the adapters they ended in, over how far the auditor's own run
 * moved them, so that a segment of one small step is judged as strictly as one of many large ones. Null when the committed
 * file is no checkpoint of the same shape, or does not hold the state that was committed with it: whoever goes on from it
 * would start from another one. Of the rest only weights count: moments differ more between two honest runs, and nobody is
 * served by them.
 *
 * @param start Path of the checkpoint that both started from; null for the first segment.
 */
export async function weightsDistance(
  committed: { readonly path: string; readonly state: string },
  own: string,
  start: { readonly work: SegmentWork; readonly path: string | null },
): Promise<number | null> {
  const expected = weightsOf(readCheckpoint(await readFile(own))?.tensors ?? []);
  const checkpoint = readCheckpoint(await readFile(committed.path));
  if (checkpoint?.state !== committed.state) return null;
  const found = weightsOf(checkpoint.tensors);
  const begun = await startingWeights(start, expected);
  if (expected.size === 0 || found.size !== expected.size) return null;
  let difference = 0;
  let moved = 0;
  for (const [name, weights] of expected) {
    const [other, first] = [found.get(name), begun.get(name)];
    if (other?.length !== weights.length || first?.length !== weights.length) return null;
    for (let at = 0; at < weights.length; at += 1) {
      const weight = weights[at] ?? 0;
      difference += ((other[at] ?? 0) - weight) ** 2;
      moved += (weight - (first[at] ?? 0)) ** 2;
    }
  }
  return difference === 0 ? 0 : Math.min(DISTANCE_MAX, Math.sqrt(difference) / Math.sqrt(moved));
}

/** The adapter before the segment: that of its checkpoint, or the plan's first one. */
async function startingWeights(
  { work, path }: { readonly work: SegmentWork; readonly path: string | null },
  expected: Weights,
): Promise<Weights> {
  if (path !== null) return weightsOf(readCheckpoint(await readFile(path))?.tensors ?? []);
  return new Map(
    [...expected].map(([name, { length }]) => {
      const { r } = work.plan.method;
      return [
        name,
        name.endsWith('.lora_a') ? initialA(name, work.plan.seed, r, length / r) : new Float32Array(length),
      ];
    }),
  );
}

/** The adapter's tensors, without their moments. */
function weightsOf(tensors: Tensors): Weights {
  return new Map(
    tensors.filter(({ name }) => /^(?!adamw\.).*\.lora_[ab]$/.test(name)).map(({ name, data }) => [name, data]),
  );
}
