import type { Weight } from './llama.ts';
import { rowsOf, type Kernel, type Matrix, type Panels } from './kernel.ts';

/** One trained tensor: where its numbers and its gradient lie in the kernel's memory. */
export interface Parameter {
  readonly name: string;
  readonly shape: readonly [rows: number, columns: number];
  readonly at: number;
  readonly gradientAt: number;
}

interface Adapter {
  readonly rank: number;
  readonly scale: number;
  readonly a: Matrix;
  readonly aTransposed: Matrix;
  readonly b: Matrix;
  /** scale · B, and its transpose. */
  readonly bScaled: Matrix;
  readonly bScaledTransposed: Matrix;
  readonly gradientA: Matrix;
  readonly gradientB: Matrix;
  /** x·Aᵀ of the last forward pass, and scale · dy·B of the backward one. */
  readonly u: Matrix;
  readonly v: Matrix;
}

export interface LoraShape {
  readonly rank: number;
  readonly alpha: number;
}

/** y = x·Wᵀ with W frozen, and + alpha/r · (x·Aᵀ)·Bᵀ where LoRA adapts it. */
export class Linear {
  readonly parameters: readonly Parameter[];
  readonly #kernel: Kernel;
  readonly #forward: Panels;
  readonly #backward: Panels;
  readonly #adapter: Adapter | undefined;

  /** @param rowsMax Rows of x at once. */
  constructor(kernel: Kernel, name: string, weight: Weight, lora: LoraShape | undefined, rowsMax: number) {
    const { data, rows, columns } = weight;
    this.#kernel = kernel;
    this.#forward = kernel.pack(data, rows, columns, true);
    this.#backward = kernel.pack(data, rows, columns, false);
    this.#adapter = lora === undefined ? undefined : makeAdapter(kernel, weight, lora, rowsMax);
    this.parameters = this.#adapter === undefined ? [] : parametersOf(name, this.#adapter);
  }

  /** To be called after the adapter's numbers changed, and before the next pass. */
  refresh(): void {
    if (this.#adapter === undefined) return;
    const { a, aTransposed, b, bScaled, bScaledTransposed, scale } = this.#adapter;
    const { f32 } = this.#kernel;
    for (let i = 0; i < b.rows * b.columns; i += 1) f32[bScaled.at + i] = scale * (f32[b.at + i] as number);
    this.#kernel.transpose(a, aTransposed);
    this.#kernel.transpose(bScaled, bScaledTransposed);
  }

  forward(x: Matrix, y: Matrix): void {
    this.#kernel.multiply(x, this.#forward, y);
    if (this.#adapter === undefined) return;
    const { aTransposed, bScaledTransposed } = this.#adapter;
    const u = rowsOf(this.#adapter.u, 0, x.rows);
    this.#kernel.multiply(x, aTransposed, u);
    this.#kernel.multiply(u, bScaledTransposed, y, true);
  }

  /** Adds to the adapter's gradients, and gives (or adds to) dx unless nothing below is trained. */
  backward(x: Matrix, dy: Matrix, dx: Matrix | undefined, accumulate: boolean): void {
    if (dx !== undefined) this.#kernel.multiply(dy, this.#backward, dx, accumulate);
    if (this.#adapter === undefined) return;
    const { a, bScaled, gradientA, gradientB } = this.#adapter;
    const [u, v] = [rowsOf(this.#adapter.u, 0, x.rows), rowsOf(this.#adapter.v, 0, x.rows)];
    this.#kernel.multiply(dy, bScaled, v);
    this.#kernel.multiplyTransposed(v, x, gradientA, true);
    this.#kernel.multiplyTransposed(dy, u, gradientB, true);
    if (dx !== undefined) this.#kernel.multiply(v, a, dx, true);
  }

  /** dB was summed without the scale, which is the same for all of a step. */
  scaleGradients(): void {
    if (this.#adapter === undefined) return;
    const { gradientB, scale } = this.#adapter;
    const { f32 } = this.#kernel;
    for (let i = 0; i < gradientB.rows * gradientB.columns; i += 1)
      f32[gradientB.at + i] = scale * (f32[gradientB.at + i] as number);
  }
}

function makeAdapter(kernel: Kernel, { rows, columns }: Weight, { rank, alpha }: LoraShape, rowsMax: number): Adapter {
  return {
    rank,
    scale: alpha / rank,
    a: kernel.matrix(rank, columns),
    aTransposed: kernel.matrix(columns, rank),
    b: kernel.matrix(rows, rank),
    bScaled: kernel.matrix(rows, rank),
    bScaledTransposed: kernel.matrix(rank, rows),
    gradientA: kernel.matrix(rank, columns),
    gradientB: kernel.matrix(rows, rank),
    u: kernel.matrix(rowsMax, rank),
    v: kernel.matrix(rowsMax, rank),
  };
}

function parametersOf(name: string, { a, b, gradientA, gradientB }: Adapter): Parameter[] {
  return [
    { name: `${name}.lora_a`, shape: [a.rows, a.columns], at: a.at, gradientAt: gradientA.at },
    { name: `${name}.lora_b`, shape: [b.rows, b.columns], at: b.at, gradientAt: gradientB.at },
  ];
}
