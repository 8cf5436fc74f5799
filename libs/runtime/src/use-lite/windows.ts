/** The model reads this many tokens and silently ignores the rest; its graph clips there. */
export const WINDOW_TOKENS = 128;

/** What is done with a text longer than the model reads. Part of the model's digest: another rule is another model. */
export const WINDOW_RULE =
  'consecutive windows of 128 tokens, mean of the unit vectors weighted by tokens, scaled to length 1';

/** Consecutive windows of a text's tokens, the last one as short as it comes. */
export function windowsOf(tokens: readonly number[]): number[][] {
  const windows: number[][] = [];
  for (let at = 0; at < tokens.length; at += WINDOW_TOKENS) windows.push(tokens.slice(at, at + WINDOW_TOKENS));
  return windows;
}

/**
 * One vector of a text from those of its windows.
 *
 * Weighted by tokens, so that a last window of three words does not count as much as a full one. A single window is left as
 * the model gave it: scaling it again would change its last bits.
 */
export function pooled(vectors: readonly Float32Array[], weights: readonly number[]): Float32Array {
  const [only] = vectors;
  if (only === undefined) throw new RangeError('pooled: expected at least one vector.');
  if (vectors.length === 1) return only;
  const sum = new Float64Array(only.length);
  vectors.forEach((vector, at) => {
    const weight = weights[at] ?? 0;
    for (let i = 0; i < sum.length; i += 1) sum[i] = (sum[i] ?? 0) + weight * (vector[i] ?? 0);
  });
  const norm = Math.sqrt(sum.reduce((total, value) => total + value * value, 0));
  return Float32Array.from(sum, (value) => (norm === 0 ? 0 : value / norm));
}
