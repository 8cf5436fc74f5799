/** Arithmetic of the placement benches. */
/** @param {readonly number[]} values */
export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** @param {readonly number[]} values */
export const sd = (values) =>
  values.length < 2
    ? 0
    : Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1));

/**
 * The value below which this part of the values lies.
 *
 * @param {Iterable<number>} values
 * @param {number} part
 */
export function quantile(values, part) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}

/** @param {Iterable<number>} values */
export const median = (values) => quantile(values, 0.5);

/** @param {number} value */
export const rounded = (value, digits = 2) => Math.round(value * 10 ** digits) / 10 ** digits;

/** Of this process so far. */
export function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
