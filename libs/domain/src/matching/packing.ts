import type { TypicalWork } from './fragmentation.ts';

/** Sizes are rounded up to this many milli: finer would cost time and change nothing that was measured. */
const GRAIN_MILLI = 10;
const WHOLE = 1_000 / GRAIN_MILLI;
/** The value found is within half a percent of its limit after this many rounds on the openb mixes. */
const ROUNDS = 6_000;
/** Part of all sizes that one filled GPU covers of each size in it: small enough to settle, large enough to get there. */
const STEP = 1 / 6_000;
const SHARPNESS = 60;

/** What typical sharing work says about parts of a GPU. */
export interface Packing {
  /** Value of so many free milli, in milli: by what they save of whole GPUs if typical work fills them. `[1000]` is 1,000. */
  readonly valueOf: Float64Array;
  /** Whole GPUs that the mix needs at least, however it is packed, per GPU of its volume. Never below 1. */
  readonly gpusPerVolume: number;
}

/**
 * The dual of packing typical work into whole GPUs (the cutting-stock bound): each size gets the part of a GPU that it costs
 * when everything is packed as well as can be, so that no combination that fits one GPU is worth more than one. Gaps that
 * little fits into get a low value, gaps that pair well a high one: this is what the fragment measure alone cannot see.
 *
 * Multiplicative weights over the sizes; deterministic. Work that takes whole GPUs needs no price: it fills them.
 */
export function packingOf(mix: readonly TypicalWork[]): Packing {
  const counts = new Map<number, number>();
  for (const { gpus, gpuMilli, share } of mix) {
    const size = Math.ceil(gpuMilli / GRAIN_MILLI);
    if (gpus > 0 && size > 0 && size < WHOLE) counts.set(size, (counts.get(size) ?? 0) + share * gpus);
  }
  const sizes = [...counts.keys()].sort((a, b) => a - b);
  const shares = sizes.map((size) => counts.get(size) ?? 0);
  const volume = sizes.reduce((sum, size, j) => sum + (size / WHOLE) * (shares[j] ?? 0), 0);
  const prices = pricesOf(sizes, shares);
  const needed = prices.reduce((sum, price, j) => sum + price * (shares[j] ?? 0), 0);
  const best = bestFilling(sizes, prices).value;
  const valueOf = new Float64Array(1_001);
  for (let milli = 0; milli < 1_000; milli += 1)
    valueOf[milli] = sizes.length === 0 ? milli : 1_000 * (best[Math.floor(milli / GRAIN_MILLI)] ?? 0);
  valueOf[1_000] = 1_000;
  return { valueOf, gpusPerVolume: volume === 0 ? 1 : Math.max(1, needed / volume) };
}

function pricesOf(sizes: readonly number[], shares: readonly number[]): number[] {
  const covered = sizes.map(() => 0);
  const total = shares.reduce((sum, share) => sum + share, 0);
  let prices = sizes.map(() => 0);
  let needed = -1;
  for (let round = 0; round < ROUNDS && sizes.length > 0; round += 1) {
    const least = Math.min(...covered.map((count, j) => count / (shares[j] ?? 1)));
    const weights = sizes.map(
      (_, j) => Math.exp(-SHARPNESS * ((covered[j] ?? 0) / (shares[j] ?? 1) - least)) / (shares[j] ?? 1),
    );
    const { value, last } = bestFilling(sizes, weights);
    const scaled = weights.map((weight) => weight / (value[WHOLE] ?? 1));
    const bins = scaled.reduce((sum, price, j) => sum + price * (shares[j] ?? 0), 0);
    if (bins > needed) [needed, prices] = [bins, scaled];
    for (let room = WHOLE; room > 0;) {
      const j = last[room] ?? -1;
      if (j >= 0) covered[j] = (covered[j] ?? 0) + STEP * total;
      room -= j >= 0 ? (sizes[j] ?? 1) : 1;
    }
  }
  return prices;
}

/** The most that sizes worth `prices` can be worth in each room, and which size was put in last (-1: a grain left empty). */
function bestFilling(
  sizes: readonly number[],
  prices: readonly number[],
): { readonly value: Float64Array; readonly last: Int32Array } {
  const value = new Float64Array(WHOLE + 1);
  const last = new Int32Array(WHOLE + 1).fill(-1);
  for (let room = 1; room <= WHOLE; room += 1) {
    let most = value[room - 1] ?? 0;
    for (let j = 0; j < sizes.length; j += 1) {
      const size = sizes[j] ?? 0;
      if (size > room) break;
      const worth = (value[room - size] ?? 0) + (prices[j] ?? 0);
      if (worth > most + 1e-15) {
        most = worth;
        last[room] = j;
      }
    }
    value[room] = most;
  }
  return { value, last };
}
