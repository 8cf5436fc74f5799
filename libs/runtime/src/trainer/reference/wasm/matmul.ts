import {
  add,
  F32,
  f32,
  f32x4,
  FunctionBuilder,
  get,
  I32,
  ifElse,
  int,
  less,
  mul,
  set,
  sub,
  V128,
  whileLoop,
  type Code,
  type Local,
} from './assembler.ts';

/** Rows of C that one tile holds in registers: with two vectors a row, 8 of 16 registers. */
const TILE_ROWS = 4;
interface Arguments {
  readonly m: Local;
  readonly n: Local;
  readonly k: Local;
  readonly a: Local;
  readonly aRowBytes: Local;
  readonly aColumnBytes: Local;
  readonly b: Local;
  readonly panelBytes: Local;
  readonly bRowBytes: Local;
  readonly c: Local;
  readonly cRowBytes: Local;
  readonly accumulate: Local;
}

/**
 * C = A·B, or C += A·B: `m` rows, `n` columns, sums over `k`, all strides in bytes.
 *
 * Each number of C is summed over k from first to last, product by product, rounding after each: whatever the tile, the
 * result is the same bits, and {@link ../kernel.ts} says the same in eight lines of TypeScript. A may be walked either
 * way round (aRowBytes, aColumnBytes), which makes A-transposed a matter of strides. B lies in panels of 8 columns,
 * `panelBytes` apart; 32 apart is plain row-major. Measured: unrolling over k costs a quarter of the speed, as V8 then
 * spills registers.
 */
export function matmul(): FunctionBuilder {
  const f = new FunctionBuilder(12);
  const names = ['m', 'n', 'k', 'a', 'aRowBytes', 'aColumnBytes', 'b', 'panelBytes', 'bRowBytes', 'c', 'cRowBytes'];
  const params = [...names, 'accumulate'].map((name, i) => [name, f.param(i)]);
  const args = Object.fromEntries(params) as unknown as Arguments; // fromEntries forgets its keys
  const j = f.local(I32);
  const bAt = f.local(I32);
  const rows = rowLoops(f, args, j, bAt);
  f.emit(
    set(bAt, get(args.b)),
    whileLoop(less(add(get(j), int(7)), get(args.n)), [
      ...rows(2),
      ...set(j, add(get(j), int(8))),
      ...set(bAt, add(get(bAt), get(args.panelBytes))),
    ]),
    ifElse(less(add(get(j), int(3)), get(args.n)), [
      ...rows(1),
      ...set(j, add(get(j), int(4))),
      ...set(bAt, add(get(bAt), int(16))),
    ]),
    whileLoop(less(get(j), get(args.n)), [
      ...rows(0),
      ...set(j, add(get(j), int(1))),
      ...set(bAt, add(get(bAt), int(4))),
    ]),
  );
  return f;
}

/** Code that computes all rows of some columns: `vectors` of four, or one column for 0. */
function rowLoops(f: FunctionBuilder, args: Arguments, j: Local, bAt: Local): (vectors: number) => Code {
  const i = f.local(I32);
  const aAt = f.local(I32);
  const cAt = f.local(I32);
  const step = (rows: number): Code => [
    ...set(i, add(get(i), int(rows))),
    ...set(aAt, add(get(aAt), mul(get(args.aRowBytes), int(rows)))),
    ...set(cAt, add(get(cAt), mul(get(args.cRowBytes), int(rows)))),
  ];
  return (vectors) => [
    ...set(i, int(0)),
    ...set(aAt, get(args.a)),
    ...set(cAt, add(get(args.c), mul(get(j), int(4)))),
    ...whileLoop(less(add(get(i), int(TILE_ROWS - 1)), get(args.m)), [
      ...tile(f, args, { rows: TILE_ROWS, vectors, aAt, bAt, cAt }),
      ...step(TILE_ROWS),
    ]),
    ...whileLoop(less(get(i), get(args.m)), [...tile(f, args, { rows: 1, vectors, aAt, bAt, cAt }), ...step(1)]),
  ];
}

interface Tile {
  readonly rows: number;
  readonly vectors: number;
  readonly aAt: Local;
  readonly bAt: Local;
  readonly cAt: Local;
}

/** One tile of C, held in registers from the first k to the last. */
function tile(f: FunctionBuilder, args: Arguments, { rows, vectors, aAt, bAt, cAt }: Tile): Code {
  const width = Math.max(1, vectors);
  const [type, op] = vectors === 0 ? ([F32, { ...f32, splatLoad: f32.load }] as const) : ([V128, f32x4] as const);
  const sums = Array.from({ length: rows }, () => Array.from({ length: width }, () => f.local(type)));
  const bs = Array.from({ length: width }, () => f.local(type));
  const as = Array.from({ length: rows }, () => f.local(I32));
  const splat = f.local(type);
  const bK = f.local(I32);
  const left = f.local(I32);
  const cRow = (row: number): Code => add(get(cAt), mul(get(args.cRowBytes), int(row)));
  const each = (body: (row: number, column: number, sum: Local) => Code): Code =>
    sums.flatMap((inRow, row) => inRow.flatMap((sum, column) => [...body(row, column, sum)]));

  const products: Code = [
    ...bs.flatMap((b, column) => [...set(b, op.load(get(bK), column * 16))]),
    ...sums.flatMap((inRow, row) => [
      ...set(splat, op.splatLoad(get(as[row] as Local))),
      ...inRow.flatMap((sum, column) => [...set(sum, op.add(get(sum), op.mul(get(splat), get(bs[column] as Local))))]),
    ]),
    ...as.flatMap((a) => [...set(a, add(get(a), get(args.aColumnBytes)))]),
    ...set(bK, add(get(bK), get(args.bRowBytes))),
    ...set(left, sub(get(left), int(1))),
  ];
  return [
    ...ifElse(
      get(args.accumulate),
      each((row, column, sum) => set(sum, op.load(cRow(row), column * 16))),
      each((_row, _column, sum) => set(sum, op.zero)),
    ),
    ...as.flatMap((a, row) => [...set(a, add(get(aAt), mul(get(args.aRowBytes), int(row))))]),
    ...set(bK, get(bAt)),
    ...set(left, get(args.k)),
    ...whileLoop(get(left), products),
    ...each((row, column, sum) => op.store(cRow(row), get(sum), column * 16)),
  ];
}
