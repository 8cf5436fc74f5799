import {
  add,
  f32x4,
  FunctionBuilder,
  get,
  int,
  less,
  set,
  sub,
  V128,
  whileLoop,
  type Code,
  type Local,
} from './assembler.ts';

/** Beyond these, e^x is 0 or Infinity in F32 for all that follows. */
const EXP_MIN = -87;
const EXP_MAX = 88;
const LOG2_E = 1.4426950408889634;
/** ln 2 in two parts: the first has so few bits that its product with a whole number is exact. */
const LN2_HIGH = 0.693359375;
const LN2_LOW = -2.1219444e-4;
/** A minimax polynomial of (e^r − 1 − r) / r² for |r| ≤ ln 2 / 2, highest power first; good to a unit in the last place. */
const POLYNOMIAL = [1.98756915e-4, 1.39819995e-3, 8.33345191e-3, 4.16657959e-2, 1.66666655e-1, 0.5];

const { constant } = f32x4;

/** e^x into `out`; x is used up. */
function exponential(f: FunctionBuilder, x: Local, out: Local): Code {
  const k = f.local(V128);
  const part = (of: number): Code => f32x4.mul(get(k), constant(of));
  const horner = POLYNOMIAL.slice(1).reduce<Code>(
    (sum, coefficient) => f32x4.add(f32x4.mul(sum, get(x)), constant(coefficient)),
    constant(POLYNOMIAL[0] ?? 0),
  );
  const squared = f32x4.mul(get(x), get(x));
  return [
    ...set(x, f32x4.min(f32x4.max(get(x), constant(EXP_MIN)), constant(EXP_MAX))),
    ...set(k, f32x4.nearest(f32x4.mul(get(x), constant(LOG2_E)))),
    ...set(x, f32x4.sub(f32x4.sub(get(x), part(LN2_HIGH)), part(LN2_LOW))),
    ...set(out, f32x4.add(f32x4.add(f32x4.mul(horner, squared), get(x)), constant(1))),
    ...set(out, f32x4.mul(get(out), f32x4.powerOfTwo(get(k)))),
  ];
}

/**
 * Walks three rows of numbers four at a time, `sigmoid` being 1 / (1 + e^−gate). Up to three numbers behind the last are
 * touched as well: the kernel's memory is handed out in pieces of 16.
 */
function walk(
  body: (at: {
    readonly gate: Local;
    readonly up: Local;
    readonly third: Local;
    readonly g: Local;
    readonly sigmoid: Local;
  }) => Code,
): FunctionBuilder {
  const f = new FunctionBuilder(4);
  const [gate, up, third, left] = [f.param(0), f.param(1), f.param(2), f.param(3)];
  const [g, x, sigmoid] = [f.local(V128), f.local(V128), f.local(V128)];
  const advance = (at: Local): Code => set(at, add(get(at), int(16)));
  // Rounded up to fours, so that the count reaches 0.
  const rounded: Code = [...add(get(left), int(3)), ...int(-4), 0x71];
  f.emit(
    set(left, rounded),
    whileLoop(less(int(0), get(left)), [
      ...set(g, f32x4.load(get(gate))),
      ...set(x, f32x4.sub(f32x4.zero, get(g))),
      ...exponential(f, x, sigmoid),
      ...set(sigmoid, f32x4.div(constant(1), f32x4.add(constant(1), get(sigmoid)))),
      ...body({ gate, up, third, g, sigmoid }),
      ...advance(gate),
      ...advance(up),
      ...advance(third),
      ...set(left, sub(get(left), int(4))),
    ]),
  );
  return f;
}

/** (gate, up, out, count): out = gate · sigmoid(gate) · up. */
export function gated(): FunctionBuilder {
  return walk(({ up, third, g, sigmoid }) =>
    f32x4.store(get(third), f32x4.mul(f32x4.mul(get(g), get(sigmoid)), f32x4.load(get(up)))),
  );
}

/** (gate, up, d, count): gate becomes d · up · s · (1 + gate · (1 − s)), up becomes d · gate · s. */
export function gatedBack(): FunctionBuilder {
  return walk(({ gate, up, third, g, sigmoid }) => {
    const d = f32x4.load(get(third));
    const slope = f32x4.add(constant(1), f32x4.mul(get(g), f32x4.sub(constant(1), get(sigmoid))));
    return [
      ...f32x4.store(get(gate), f32x4.mul(f32x4.mul(f32x4.mul(d, f32x4.load(get(up))), get(sigmoid)), slope)),
      ...f32x4.store(get(up), f32x4.mul(f32x4.mul(d, get(g)), get(sigmoid))),
    ];
  });
}
