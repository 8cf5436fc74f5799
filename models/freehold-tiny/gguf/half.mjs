/** IEEE half precision, as weights are stored: not every supported Node has a Float16Array. */

const bits = new Uint32Array(1);
const value = new Float32Array(bits.buffer);

/** The number a 16-bit pattern stands for. */
export function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The nearest 16-bit pattern, ties to even; what is too large becomes infinity. */
export function toHalf(number) {
  value[0] = number;
  const all = bits[0];
  const sign = (all >>> 16) & 0x8000;
  const exponent = ((all >>> 23) & 0xff) - 127 + 15;
  let fraction = all & 0x7fffff;
  if (exponent === 255 - 127 + 15) return sign | 0x7c00 | (fraction === 0 ? 0 : 0x200);
  if (exponent >= 31) return sign | 0x7c00;
  let shift = 13;
  let result;
  if (exponent <= 0) {
    if (exponent < -10) return sign;
    fraction |= 0x800000;
    shift = 14 - exponent;
    result = fraction >>> shift;
  } else {
    result = (exponent << 10) | (fraction >>> shift);
  }
  const rest = fraction & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  if (rest > half || (rest === half && (result & 1) === 1)) result += 1;
  return sign | result;
}
