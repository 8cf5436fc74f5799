import { readFile } from 'node:fs/promises';

/** Longer headers are no checkpoint's. */
const HEADER_BYTES_MAX = 16 * 1_048_576;

/**
 * L2 distance between the adapters of two checkpoints over the norm of the second; null when the first is no checkpoint of the
 * same shape. Only weights count: moments differ more between two honest runs, and nobody is served by them.
 */
export async function weightsDistance(committed: string, own: string): Promise<number | null> {
  const expected = readWeights(await readFile(own));
  const found = readWeights(await readFile(committed));
  if (expected === null || found === null || expected.size === 0 || found.size !== expected.size) return null;
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

/** The adapter's tensors of a safetensors file: `*.lora_a` and `*.lora_b`. */
function readWeights(bytes: Buffer): Map<string, Float32Array> | null {
  if (bytes.length < 8) return null;
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  if (headerBytes > HEADER_BYTES_MAX || 8 + headerBytes > bytes.length) return null;
  let header: unknown;
  try {
    header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes));
  } catch {
    // Not a checkpoint: the caller says so.
    return null;
  }
  if (typeof header !== 'object' || header === null) return null;
  const weights = new Map<string, Float32Array>();
  for (const [name, entry] of Object.entries(header)) {
    if (!/^(?!adamw\.).*\.lora_[ab]$/i.test(name)) continue;
    const place = placeOf(entry, bytes.length - 8 - headerBytes);
    if (place === null) return null;
    const start = 8 + headerBytes + place.from;
    weights.set(name, new Float32Array(new Uint8Array(bytes.subarray(start, start + place.to - place.from)).buffer));
  }
  return weights;
}

function placeOf(entry: unknown, bytesMax: number): { readonly from: number; readonly to: number } | null {
  if (typeof entry !== 'object' || entry === null || !('dtype' in entry) || !('data_offsets' in entry)) return null;
  const { dtype, data_offsets: offsets } = entry;
  if (dtype !== 'F32' || !Array.isArray(offsets)) return null;
  const [from, to] = offsets as unknown[];
  if (typeof from !== 'number' || typeof to !== 'number') return null;
  return Number.isInteger(from) && from >= 0 && to >= from && to <= bytesMax && (to - from) % 4 === 0
    ? { from, to }
    : null;
}
