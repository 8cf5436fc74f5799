/**
 * exp, ln, sin and cos of our own: the language leaves the last bits of `Math.exp` and its kin to the engine, and a
 * segment must come out the same on any. Only + − × ÷ and comparisons of doubles are used, which IEEE 754 fixes.
 * Errors are far below the rounding of F32 (2⁻²⁴), which every result is stored in.
 */

/** Taken once: under node:vm, where tests run, a look at a global costs more than what is done with it. */
const { floor } = Math;

const LOG2_E = 1.4426950408889634;
/** ln 2 in two parts: the first has 21 trailing zero bits, so that k · LN2_HIGH is exact. */
const LN2_HIGH = 0.69314718036912381649;
const LN2_LOW = 1.90821492927058770002e-10;
const EXPONENT_MIN = -1_022;
const EXPONENT_MAX = 1_023;
/** 2^k for every normal exponent, made by doubling and halving. */
const POWERS = new Float64Array(EXPONENT_MAX - EXPONENT_MIN + 1);
POWERS[-EXPONENT_MIN] = 1;
for (let k = 1; k <= EXPONENT_MAX; k += 1) POWERS[k - EXPONENT_MIN] = 2 * (POWERS[k - 1 - EXPONENT_MIN] as number);
for (let k = -1; k >= EXPONENT_MIN; k -= 1) POWERS[k - EXPONENT_MIN] = 0.5 * (POWERS[k + 1 - EXPONENT_MIN] as number);

/** e^x to 2·10⁻¹² relative; 0 below −708, Infinity above 709. */
export function exp(x: number): number {
  if (x < -708) return 0;
  if (x > 709) return Infinity;
  const k = floor(x * LOG2_E + 0.5);
  const r = x - k * LN2_HIGH - k * LN2_LOW;
  const tail = 1 / 5040 + r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800)));
  const head = 1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * tail)));
  // NaN stays NaN: its table entry is undefined, and undefined times a number is NaN.
  return (1 + r * (1 + r * (0.5 + r * head))) * (POWERS[k - EXPONENT_MIN] as number);
}

const bits = new DataView(new ArrayBuffer(8));

/** ln x of a positive normal number, to 10⁻¹⁴ relative. */
export function ln(x: number): number {
  if (!(x > 0) || x === Infinity) return x === 0 ? -Infinity : x > 0 ? Infinity : NaN;
  bits.setFloat64(0, x);
  const high = bits.getUint32(0);
  let exponent = ((high >>> 20) & 0x7ff) - 1023;
  bits.setUint32(0, (high & 0x000fffff) | 0x3ff00000);
  let mantissa = bits.getFloat64(0);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    exponent += 1;
  }
  // ln m = 2 atanh((m−1)/(m+1)), whose argument is at most 0.172.
  const s = (mantissa - 1) / (mantissa + 1);
  const s2 = s * s;
  let sum = 0;
  for (let power = 19; power >= 1; power -= 2) sum = sum * s2 + 1 / power;
  return exponent * LN2_HIGH + (exponent * LN2_LOW + 2 * s * sum);
}

/** π/2 in three parts, the first two short enough that their products with a small whole number are exact. */
const HALF_PI_PARTS = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21] as const;
const TWO_OVER_PI = 0.6366197723675814;

/** [cos x, sin x] for |x| up to 10⁶: rotary angles are positions times at most 1. */
export function cosSin(x: number): readonly [number, number] {
  const k = floor(x * TWO_OVER_PI + 0.5);
  const r = x - k * HALF_PI_PARTS[0] - k * HALF_PI_PARTS[1] - k * HALF_PI_PARTS[2];
  const r2 = r * r;
  const sine = r * alternating(r2, [6227020800, 39916800, 362880, 5040, 120, 6, 1]);
  const cosine = alternating(r2, [479001600, 3628800, 40320, 720, 24, 2, 1]);
  switch (((k % 4) + 4) % 4) {
    case 0:
      return [cosine, sine];
    case 1:
      return [-sine, cosine];
    case 2:
      return [-cosine, -sine];
    default:
      return [sine, -cosine];
  }
}

/** Σ ± x^i / d_i, the last divisor being that of x^0. */
function alternating(x: number, divisors: readonly number[]): number {
  return divisors.reduce((sum, divisor) => 1 / divisor - x * sum, 0);
}

/** x^n of a whole n ≥ 0 by repeated squaring. */
export function power(x: number, n: number): number {
  let result = 1;
  let square = x;
  for (let rest = n; rest > 0; rest = floor(rest / 2)) {
    if (rest % 2 === 1) result *= square;
    square *= square;
  }
  return result;
}
