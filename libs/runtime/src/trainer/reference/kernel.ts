import { createHash } from 'node:crypto';
import { TrainerError } from '@freehold/market/trainer';
import { moduleBytes } from './wasm/assembler.ts';
import { gated, gatedBack } from './wasm/gated.ts';
import { matmul } from './wasm/matmul.ts';

const PAGE_BYTES = 65_536;
/** WebAssembly's own limit of a 32-bit memory. */
const PAGES_MAX = 65_535;
const PANEL_COLUMNS = 8;

type Call = (...parameters: number[]) => void;

const MODULE = moduleBytes({ matmul: matmul(), gated: gated(), gatedBack: gatedBack() });
/** Which kernel computed a state: another kernel may round otherwise, and is another engine class. */
export const KERNEL_SHA256 = createHash('sha256').update(MODULE).digest('hex');

/** A matrix in the kernel's memory; `at` and the strides count numbers, not bytes. */
export interface Matrix {
  readonly at: number;
  readonly rows: number;
  readonly columns: number;
  /** Numbers from one row to the next. */
  readonly stride: number;
}

/** A matrix that stays as it is, laid out in panels of 8 columns: those of one panel are what one tile reads in a row. */
export interface Panels extends Matrix {
  readonly packed: true;
}

/** The memory that training works in, and products of matrices in it. */
export class Kernel {
  /** All of the memory as F32. Replaced when it grows: not to be kept across {@link allocate}. */
  f32: Float32Array;
  readonly #memory: WebAssembly.Memory;
  readonly #matmul: Call;
  readonly #gated: Call;
  readonly #gatedBack: Call;
  #used = 0;

  constructor() {
    this.#memory = new WebAssembly.Memory({ initial: 1, maximum: PAGES_MAX });
    const instance = new WebAssembly.Instance(new WebAssembly.Module(MODULE), { env: { memory: this.#memory } });
    this.#matmul = instance.exports['matmul'] as Call;
    this.#gated = instance.exports['gated'] as Call;
    this.#gatedBack = instance.exports['gatedBack'] as Call;
    this.f32 = new Float32Array(this.#memory.buffer);
  }

  /** Room for `count` numbers, all 0, aligned to a cache line. @throws {TrainerError} `out_of_memory` */
  allocate(count: number): number {
    const at = this.#used;
    this.#used += Math.ceil(count / 16) * 16;
    const missing = Math.ceil((this.#used * 4 - this.#memory.buffer.byteLength) / PAGE_BYTES);
    if (missing > 0) {
      try {
        this.#memory.grow(missing);
      } catch {
        const mib = Math.ceil((this.#used * 4) / 2 ** 20);
        const message = `Training needs over ${mib} MiB: more than there is. Use shorter examples, a lower rank or a smaller base.`;
        throw new TrainerError('out_of_memory', message, false);
      }
      this.f32 = new Float32Array(this.#memory.buffer);
    }
    return at;
  }

  matrix(rows: number, columns: number): Matrix {
    return { at: this.allocate(rows * columns), rows, columns, stride: columns };
  }

  /** Lays a row-major matrix out in panels; with `transposed`, its transpose. */
  pack(data: Float32Array, rows: number, columns: number, transposed: boolean): Panels {
    const [outRows, outColumns] = transposed ? [columns, rows] : [rows, columns];
    const at = this.allocate(outRows * Math.ceil(outColumns / PANEL_COLUMNS) * PANEL_COLUMNS);
    const { f32 } = this;
    for (let row = 0; row < outRows; row += 1)
      for (let column = 0; column < outColumns; column += 1) {
        const panel = (column - (column % PANEL_COLUMNS)) / PANEL_COLUMNS;
        const place = at + (panel * outRows + row) * PANEL_COLUMNS + (column % PANEL_COLUMNS);
        f32[place] = data[transposed ? column * columns + row : row * columns + column] as number;
      }
    return { at, rows: outRows, columns: outColumns, stride: PANEL_COLUMNS, packed: true };
  }

  /** c = a·b, or c += a·b; rows and columns are those of c, the sums' length that of b's rows. */
  multiply(a: Matrix, b: Matrix | Panels, c: Matrix, accumulate = false): void {
    this.#call(a.at, a.stride, 1, b, c, accumulate);
  }

  /** c = aᵀ·b, or c += aᵀ·b. */
  multiplyTransposed(a: Matrix, b: Matrix, c: Matrix, accumulate = false): void {
    this.#call(a.at, 1, a.stride, b, c, accumulate);
  }

  #call(a: number, aRow: number, aColumn: number, b: Matrix | Panels, c: Matrix, accumulate: boolean): void {
    const panel = 'packed' in b ? b.rows * PANEL_COLUMNS : PANEL_COLUMNS;
    this.#matmul(
      ...[c.rows, c.columns, b.rows],
      ...[a * 4, aRow * 4, aColumn * 4],
      ...[b.at * 4, panel * 4, b.stride * 4],
      ...[c.at * 4, c.stride * 4, accumulate ? 1 : 0],
    );
  }

  /** out = silu(gate) · up, number by number; rows without gaps. */
  gated(gate: Matrix, up: Matrix, out: Matrix): void {
    this.#gated(gate.at * 4, up.at * 4, out.at * 4, gate.rows * gate.columns);
  }

  /** The gradients of {@link gated}, written over gate and up, which are not needed any more. */
  gatedBack(gate: Matrix, up: Matrix, dOut: Matrix): void {
    this.#gatedBack(gate.at * 4, up.at * 4, dOut.at * 4, gate.rows * gate.columns);
  }

  /** out = inᵀ. */
  transpose(from: Matrix, to: Matrix): void {
    const { f32 } = this;
    for (let row = 0; row < from.rows; row += 1)
      for (let column = 0; column < from.columns; column += 1)
        f32[to.at + column * to.stride + row] = f32[from.at + row * from.stride + column] as number;
  }
}

/** Rows [from, from + count) of a matrix. */
export function rowsOf(matrix: Matrix, from: number, count: number): Matrix {
  return { ...matrix, at: matrix.at + from * matrix.stride, rows: count };
}

/** Columns [from, from + count) of a matrix. */
export function columnsOf(matrix: Matrix, from: number, count: number): Matrix {
  return { ...matrix, at: matrix.at + from, columns: count };
}
