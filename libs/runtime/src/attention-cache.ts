import { cacheBytesPerToken } from '@freehold/domain';

/**
 * Bytes that a model keeps for one token in its attention cache, from the head of its GGUF file; undefined where that does not say it.
 *
 * For models that keep less (a sliding window, compressed keys) it is more than they take.
 *
 * @param entry An entry of the head by its name without the architecture that it begins with, such as `block_count`.
 */
export function cacheBytesOf(entry: (name: string) => unknown): number | undefined {
  const count = (name: string): number | undefined => positive(entry(name));
  const layers = count('block_count');
  const queryHeads = count('attention.head_count');
  const width = count('embedding_length');
  const keyLength = count('attention.key_length') ?? (width && queryHeads && width / queryHeads);
  const valueLength = count('attention.value_length') ?? keyLength;
  if (layers === undefined || keyLength === undefined || valueLength === undefined) return undefined;
  const ofLayers = entry('attention.head_count_kv');
  // Models whose layers are of several kinds list them one by one.
  const headsInAll = Array.isArray(ofLayers)
    ? ofLayers.reduce((sum: number, heads: unknown) => sum + (positive(heads) ?? 0), 0)
    : layers * (positive(ofLayers) ?? queryHeads ?? 0);
  const bytes = Math.ceil(cacheBytesPerToken({ layers: 1, heads: headsInAll, keyLength, valueLength }));
  return bytes > 0 && Number.isSafeInteger(bytes) ? bytes : undefined;
}

function positive(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value > 0 ? value : undefined;
}
