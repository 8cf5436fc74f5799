import type { LoraTarget } from '@freehold/protocol/trainer';
import { Attention, probabilityCount, type Heads } from './attention.ts';
import type { Example } from './example.ts';
import { rowsOf, type Kernel, type Matrix, type Panels } from './kernel.ts';
import { Linear, type LoraShape, type Parameter } from './linear.ts';
import { rotaryTable, shapeOf, type Llama, type LlamaConfig } from './llama.ts';
import { microBatchOf, type MicroBatch } from './micro-batch.ts';
import { crossEntropy, normalise, normaliseBack, rotate } from './pointwise.ts';
import { addTo, copy, gather, rowsOfAll, spread } from './rows.ts';

/** Logits are made for this many rows at a time: a vocabulary wide, they would be the largest buffer of all. */
const HEAD_ROWS = 64;

/** Loss and hits of one example. */
export interface ExampleScore {
  loss: number;
  hits: number;
  trained: number;
}

interface Block {
  readonly norms: { readonly attention: Float32Array; readonly ffn: Float32Array };
  readonly linears: Readonly<Record<LoraTarget, Linear>>;
  /** What the way back needs of the way there. */
  readonly kept: Readonly<
    Record<'x' | 'n1' | 'q' | 'k' | 'v' | 'mixed' | 'middle' | 'n2' | 'gate' | 'up' | 'act', Matrix>
  >;
  readonly probabilities: number;
}

interface Inverses {
  readonly attention: Float64Array;
  readonly ffn: Float64Array;
}

/** A Llama network with LoRA adapters: loss of examples, and its gradient by the adapters. */
export class Network {
  readonly parameters: readonly Parameter[];
  readonly #kernel: Kernel;
  readonly #config: LlamaConfig;
  readonly #embedding: Float32Array;
  readonly #blocks: readonly Block[];
  readonly #rotary: Float32Array;
  readonly #outputNorm: Float32Array;
  readonly #head: { readonly forward: Panels; readonly backward: Panels };
  readonly #attention: Attention;
  readonly #buffers: Readonly<
    Record<'x' | 'normed' | 'residual' | 'wide' | 'd' | 'dn' | 'dq' | 'dk' | 'dv' | 'logits', Matrix>
  >;

  /** @param rowsMax Rows that pass through together. */
  constructor(kernel: Kernel, llama: Llama, targets: readonly LoraTarget[], lora: LoraShape, rowsMax: number) {
    const { config } = llama;
    const wide = config.heads * config.headWidth;
    const narrow = config.kvHeads * config.headWidth;
    this.#kernel = kernel;
    this.#config = config;
    this.#embedding = llama.tensor('token_embd.weight').data;
    this.#rotary = rotaryTable(config, rowsMax);
    this.#outputNorm = llama.tensor('output_norm.weight').data;
    const output = llama.tensor('output.weight');
    this.#head = {
      forward: kernel.pack(output.data, output.rows, output.columns, true),
      backward: kernel.pack(output.data, output.rows, output.columns, false),
    };
    this.#attention = new Attention(kernel, config, rowsMax);
    this.#blocks = Array.from({ length: config.layers }, (_, layer) =>
      makeBlock(kernel, llama, layer, targets, lora, rowsMax),
    );
    this.parameters = this.#blocks.flatMap(({ linears }) =>
      Object.values(linears).flatMap((linear) => linear.parameters),
    );
    const rows = (columns: number): Matrix => kernel.matrix(rowsMax, columns);
    this.#buffers = {
      x: rows(config.width),
      normed: rows(config.width),
      wide: rows(Math.max(wide, config.ffn)),
      residual: rows(config.width),
      d: rows(config.width),
      dn: rows(config.width),
      dq: rows(wide),
      dk: rows(narrow),
      dv: rows(narrow),
      logits: kernel.matrix(HEAD_ROWS, config.vocabulary),
    };
  }

  /** To be called when the parameters changed. */
  refresh(): void {
    for (const { linears } of this.#blocks) for (const linear of Object.values(linears)) linear.refresh();
  }

  /** Scores of the examples; with `weight`, adds the gradient of weight · Σ loss to the parameters'. */
  pass(examples: readonly Example[], weight: number | undefined): ExampleScore[] {
    const flat = microBatchOf(examples);
    const { f32 } = this.#kernel;
    const x = rowsOf(this.#buffers.x, 0, flat.rows);
    const { width } = this.#config;
    flat.tokens.forEach((token, row) => {
      f32.set(this.#embedding.subarray(token * width, (token + 1) * width), x.at + row * width);
    });
    // Behind the last attention nobody looks at rows that are not trained: they go no further.
    const wanted = flat.trained.map(({ row }) => row);
    const last = this.#blocks.length - 1;
    const inverses = this.#blocks.map((block, layer): Inverses => {
      const attention = this.#attend(block, flat, x);
      const residual =
        layer === last ? rowsOf(this.#buffers.residual, 0, flat.rows) : rowsOf(block.kept.x, 0, flat.rows);
      if (layer === last) {
        copy(f32, rowsOf(block.kept.x, 0, flat.rows), residual);
        gather(f32, residual, wanted);
        gather(f32, block.kept.mixed, wanted);
      }
      return { attention, ffn: this.#feed(block, residual, layer === last ? wanted.length : flat.rows, x) };
    });
    const d = rowsOf(this.#buffers.d, 0, flat.rows);
    const scores = this.#headLoss(flat, x, d, examples.length, weight);
    if (weight === undefined) return scores;
    for (let layer = last; layer >= 0; layer -= 1) {
      const block = this.#blocks[layer] as Block;
      const { attention, ffn } = inverses[layer] as Inverses;
      const dMixed = this.#feedBack(block, ffn, layer === last ? wanted.length : flat.rows, d);
      if (layer === last) {
        spread(f32, rowsOf(dMixed, 0, flat.rows), wanted);
        spread(f32, d, wanted);
      }
      this.#attendBack(block, attention, flat, rowsOf(dMixed, 0, flat.rows), d, layer === 0);
    }
    return scores;
  }

  /** To be called once per step, after the last pass. */
  finishGradients(): void {
    for (const { linears } of this.#blocks) for (const linear of Object.values(linears)) linear.scaleGradients();
  }

  /** First half of a block, up to what its heads have mixed; x is kept. */
  #attend({ norms, linears, kept, probabilities }: Block, flat: MicroBatch, x: Matrix): Float64Array {
    const { f32 } = this.#kernel;
    const { normEpsilon, headWidth } = this.#config;
    const of = rowsOfAll(kept, flat.rows);
    copy(f32, x, of.x);
    const inverses = normalise(f32, of.x, norms.attention, normEpsilon, of.n1);
    linears.attn_q.forward(of.n1, of.q);
    linears.attn_k.forward(of.n1, of.k);
    linears.attn_v.forward(of.n1, of.v);
    rotate(f32, of.q, flat.positions, this.#rotary, headWidth, 1);
    rotate(f32, of.k, flat.positions, this.#rotary, headWidth, 1);
    this.#attention.forward(flat.spans, of, of.mixed, probabilities);
    return inverses;
  }

  /** Second half: the first `rows` rows of what was mixed, and of x before it, become those of the block's output. */
  #feed({ norms, linears, kept }: Block, residual: Matrix, rows: number, x: Matrix): Float64Array {
    const { f32 } = this.#kernel;
    const of = rowsOfAll(kept, rows);
    const out = rowsOf(x, 0, rows);
    linears.attn_output.forward(of.mixed, of.middle);
    addTo(f32, residual, of.middle);
    const inverses = normalise(f32, of.middle, norms.ffn, this.#config.normEpsilon, of.n2);
    linears.ffn_gate.forward(of.n2, of.gate);
    linears.ffn_up.forward(of.n2, of.up);
    this.#kernel.gated(of.gate, of.up, of.act);
    linears.ffn_down.forward(of.act, out);
    addTo(f32, of.middle, out);
    return inverses;
  }

  /** d, the gradient by the block's output, becomes that by its x. @returns That by what was mixed. */
  #feedBack({ norms, linears, kept }: Block, inverses: Float64Array, rows: number, d: Matrix): Matrix {
    const of = rowsOfAll(kept, rows);
    const dOut = rowsOf(d, 0, rows);
    const dAct = this.#rows('wide', rows, this.#config.ffn);
    const dn = this.#rows('dn', rows);
    linears.ffn_down.backward(of.act, dOut, dAct, false);
    this.#kernel.gatedBack(of.gate, of.up, dAct);
    linears.ffn_gate.backward(of.n2, of.gate, dn, false);
    linears.ffn_up.backward(of.n2, of.up, dn, true);
    normaliseBack(this.#kernel.f32, of.middle, norms.ffn, inverses, dn, dOut);
    const dMixed = this.#rows('wide', rows, of.mixed.columns);
    linears.attn_output.backward(of.mixed, dOut, dMixed, false);
    return dMixed;
  }

  /** Adds to d what comes back through the heads. */
  #attendBack(
    block: Block,
    inverses: Float64Array,
    flat: MicroBatch,
    dMixed: Matrix,
    d: Matrix,
    lowest: boolean,
  ): void {
    const { norms, linears, kept, probabilities } = block;
    const { f32 } = this.#kernel;
    const { headWidth } = this.#config;
    const of = rowsOfAll(kept, flat.rows);
    const dn = this.#rows('dn', flat.rows);
    const back: Heads = {
      q: this.#rows('dq', flat.rows),
      k: this.#rows('dk', flat.rows),
      v: this.#rows('dv', flat.rows),
    };
    this.#attention.backward(flat.spans, of, dMixed, probabilities, back);
    rotate(f32, back.q, flat.positions, this.#rotary, headWidth, -1);
    rotate(f32, back.k, flat.positions, this.#rotary, headWidth, -1);
    // Nothing is trained below the lowest block: its input needs no gradient.
    const below = lowest ? undefined : dn;
    linears.attn_q.backward(of.n1, back.q, below, false);
    linears.attn_k.backward(of.n1, back.k, below, true);
    linears.attn_v.backward(of.n1, back.v, below, true);
    if (!lowest) normaliseBack(f32, of.x, norms.attention, inverses, dn, d);
  }

  /** A buffer as a matrix of another shape. */
  #rows(name: 'wide' | 'dn' | 'dq' | 'dk' | 'dv', rows: number, columns = this.#buffers[name].columns): Matrix {
    return { at: this.#buffers[name].at, rows, columns, stride: columns };
  }

  /** Losses of the trained rows, which x holds; `d` becomes the gradient by x. */
  #headLoss(flat: MicroBatch, x: Matrix, d: Matrix, examples: number, weight: number | undefined): ExampleScore[] {
    const { f32 } = this.#kernel;
    const { normEpsilon } = this.#config;
    const scores = Array.from({ length: examples }, (): ExampleScore => ({ loss: 0, hits: 0, trained: 0 }));
    f32.fill(0, d.at, d.at + d.rows * d.stride);
    for (let from = 0; from < flat.trained.length; from += HEAD_ROWS) {
      const some = flat.trained.slice(from, from + HEAD_ROWS);
      const hidden = rowsOf(x, from, some.length);
      const normed = rowsOf(this.#buffers.normed, 0, some.length);
      const logits = rowsOf(this.#buffers.logits, 0, some.length);
      const inverses = normalise(f32, hidden, this.#outputNorm, normEpsilon, normed);
      this.#kernel.multiply(normed, this.#head.forward, logits);
      some.forEach(({ target, example }, i) => {
        const { loss, hit } = crossEntropy(f32, logits, i, target, weight ?? 0);
        const score = scores[example] as ExampleScore;
        score.loss += loss;
        score.hits += hit ? 1 : 0;
        score.trained += 1;
      });
      if (weight === undefined) continue;
      this.#kernel.multiply(logits, this.#head.backward, normed);
      normaliseBack(f32, hidden, this.#outputNorm, inverses, normed, rowsOf(d, from, some.length));
    }
    return scores;
  }
}

function makeBlock(
  kernel: Kernel,
  llama: Llama,
  layer: number,
  targets: readonly LoraTarget[],
  lora: LoraShape,
  rowsMax: number,
): Block {
  const { config } = llama;
  const name = (part: string): string => `blk.${layer}.${part}.weight`;
  const linear = (target: LoraTarget): Linear =>
    new Linear(kernel, name(target), llama.tensor(name(target)), targets.includes(target) ? lora : undefined, rowsMax);
  const rows = (columns: number): Matrix => kernel.matrix(rowsMax, columns);
  const of = (target: LoraTarget): number => shapeOf(config, target).rows;
  return {
    norms: { attention: llama.tensor(name('attn_norm')).data, ffn: llama.tensor(name('ffn_norm')).data },
    linears: {
      attn_q: linear('attn_q'),
      attn_k: linear('attn_k'),
      attn_v: linear('attn_v'),
      attn_output: linear('attn_output'),
      ffn_gate: linear('ffn_gate'),
      ffn_up: linear('ffn_up'),
      ffn_down: linear('ffn_down'),
    },
    kept: {
      x: rows(config.width),
      n1: rows(config.width),
      q: rows(of('attn_q')),
      k: rows(of('attn_k')),
      v: rows(of('attn_v')),
      mixed: rows(of('attn_q')),
      middle: rows(config.width),
      n2: rows(config.width),
      gate: rows(config.ffn),
      up: rows(config.ffn),
      act: rows(config.ffn),
    },
    // Several examples need no more than one that fills all rows.
    probabilities: kernel.allocate(probabilityCount(config, [{ from: 0, length: rowsMax }])),
  };
}
