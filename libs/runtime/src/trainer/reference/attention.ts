import type { LlamaConfig } from './llama.ts';
import { columnsOf, rowsOf, type Kernel, type Matrix } from './kernel.ts';
import { causalSoftmax, causalSoftmaxBack } from './pointwise.ts';

/** Rows [from, from + length) of a micro-batch belong to one example and see only each other. */
export interface Span {
  readonly from: number;
  readonly length: number;
}

/** Queries, keys and values of a layer, or their gradients. */
export interface Heads {
  readonly q: Matrix;
  readonly k: Matrix;
  readonly v: Matrix;
}

/** Numbers that the probabilities of one layer take for these spans. */
export function probabilityCount(config: LlamaConfig, spans: readonly Span[]): number {
  return spans.reduce((sum, { length }) => sum + config.heads * length * padded(length), 0);
}

/** Rows of 8, so that the kernel finds whole tiles. */
const padded = (length: number): number => Math.ceil(length / 8) * 8;

/** Causal attention with shared key heads. Scratch is allocated once, for the longest example. */
export class Attention {
  readonly #kernel: Kernel;
  readonly #config: LlamaConfig;
  readonly #turned: Matrix;
  readonly #d: Matrix;

  constructor(kernel: Kernel, config: LlamaConfig, longest: number) {
    this.#kernel = kernel;
    this.#config = config;
    this.#turned = kernel.matrix(config.headWidth, padded(longest));
    this.#d = kernel.matrix(longest, padded(longest));
  }

  /** @param probabilities Kept for the way back: place of {@link probabilityCount} numbers. */
  forward(spans: readonly Span[], { q, k, v }: Heads, out: Matrix, probabilities: number): void {
    this.#eachHead(spans, probabilities, (span, head, p) => {
      const [qs, ks, vs] = [this.#head(q, span, head.q), this.#head(k, span, head.kv), this.#head(v, span, head.kv)];
      this.#kernel.multiply(qs, this.#transposed(ks), p);
      causalSoftmax(this.#kernel.f32, p, this.#scale);
      this.#kernel.multiply(p, vs, this.#head(out, span, head.q));
    });
  }

  /** Gradients of queries, keys and values from that of the output; those of shared key heads add up. */
  backward(spans: readonly Span[], { q, k, v }: Heads, dOut: Matrix, probabilities: number, d: Heads): void {
    this.#eachHead(spans, probabilities, (span, head, p) => {
      const shared = head.q % (this.#config.heads / this.#config.kvHeads) !== 0;
      const [qs, ks, vs] = [this.#head(q, span, head.q), this.#head(k, span, head.kv), this.#head(v, span, head.kv)];
      const dOuts = this.#head(dOut, span, head.q);
      const dp: Matrix = { at: this.#d.at, rows: span.length, columns: p.columns, stride: p.stride };
      // Padding columns of p are 0 by the softmax; here nothing must be left in them either.
      this.#kernel.multiply(dOuts, this.#transposed(vs), dp);
      this.#kernel.multiplyTransposed(columnsOf(p, 0, span.length), dOuts, this.#head(d.v, span, head.kv), shared);
      causalSoftmaxBack(this.#kernel.f32, p, dp, this.#scale);
      this.#kernel.multiply(dp, ks, this.#head(d.q, span, head.q));
      this.#kernel.multiplyTransposed(columnsOf(dp, 0, span.length), qs, this.#head(d.k, span, head.kv), shared);
    });
  }

  get #scale(): number {
    return 1 / Math.sqrt(this.#config.headWidth);
  }

  #eachHead(
    spans: readonly Span[],
    probabilities: number,
    visit: (span: Span, head: { readonly q: number; readonly kv: number }, p: Matrix) => void,
  ): void {
    const { heads, kvHeads } = this.#config;
    let at = probabilities;
    for (const span of spans) {
      const stride = padded(span.length);
      for (let head = 0; head < heads; head += 1) {
        const p = { at, rows: span.length, columns: stride, stride };
        visit(span, { q: head, kv: Math.floor(head / (heads / kvHeads)) }, p);
        at += span.length * stride;
      }
    }
  }

  #head(matrix: Matrix, span: Span, head: number): Matrix {
    const { headWidth } = this.#config;
    return columnsOf(rowsOf(matrix, span.from, span.length), head * headWidth, headWidth);
  }

  /** The transpose of one head's rows, with columns of 0 up to a whole tile. */
  #transposed(rows: Matrix): Matrix {
    const columns = padded(rows.rows);
    const turned = { at: this.#turned.at, rows: rows.columns, columns, stride: columns };
    this.#kernel.f32.fill(0, turned.at, turned.at + rows.columns * columns);
    this.#kernel.transpose(rows, turned);
    return turned;
  }
}
