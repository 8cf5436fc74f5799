import type { LoraTarget } from '@freehold/protocol';
import { Attention, probabilityCount, type Heads, type Span } from './attention.ts';
import type { Example } from './example.ts';
import { rowsOf, type Kernel, type Matrix, type Panels } from './kernel.ts';
import { Linear, type LoraShape, type Parameter } from './linear.ts';
import { rotaryTable, shapeOf, type Llama, type LlamaConfig } from './llama.ts';
import { crossEntropy, gated, gatedBack, normalise, normaliseBack, rotate } from './pointwise.ts';

/** Logits are made for this many rows at a time: a vocabulary wide, they would be the largest buffer of all. */
const HEAD_ROWS = 64;

/** Examples that pass through together, as rows of one matrix. */
interface Flat {
  readonly rows: number;
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly spans: readonly Span[];
  /** Rows whose next token is trained, with that token. */
  readonly trained: readonly { readonly row: number; readonly target: number; readonly example: number }[];
}

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
    Record<'x' | 'normed' | 'wide' | 'wide2' | 'd' | 'dn' | 'dq' | 'dk' | 'dv' | 'logits' | 'hidden', Matrix>
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
      wide2: rows(config.width),
      d: rows(config.width),
      dn: rows(config.width),
      dq: rows(wide),
      dk: rows(narrow),
      dv: rows(narrow),
      logits: kernel.matrix(HEAD_ROWS, config.vocabulary),
      hidden: kernel.matrix(HEAD_ROWS, config.width),
    };
  }

  /** To be called when the parameters changed. */
  refresh(): void {
    for (const { linears } of this.#blocks) for (const linear of Object.values(linears)) linear.refresh();
  }

  /** Scores of the examples; with `weight`, adds the gradient of weight · Σ loss to the parameters'. */
  pass(examples: readonly Example[], weight: number | undefined): ExampleScore[] {
    const flat = flatten(examples);
    const { f32 } = this.#kernel;
    const x = rowsOf(this.#buffers.x, 0, flat.rows);
    const { width } = this.#config;
    flat.tokens.forEach((token, row) => {
      f32.set(this.#embedding.subarray(token * width, (token + 1) * width), x.at + row * width);
    });
    const inverses = this.#blocks.map((block) => this.#blockForward(block, flat, x));
    const d = rowsOf(this.#buffers.d, 0, flat.rows);
    const scores = this.#headLoss(flat, x, d, examples.length, weight);
    if (weight === undefined) return scores;
    for (let layer = this.#blocks.length - 1; layer >= 0; layer -= 1)
      this.#blockBackward(this.#blocks[layer] as Block, inverses[layer] as Inverses, flat, d, layer === 0);
    return scores;
  }

  /** To be called once per step, after the last pass. */
  finishGradients(): void {
    for (const { linears } of this.#blocks) for (const linear of Object.values(linears)) linear.scaleGradients();
  }

  /** x becomes the block's output; what went in is kept. */
  #blockForward({ norms, linears, kept, probabilities }: Block, flat: Flat, x: Matrix): Inverses {
    const { f32 } = this.#kernel;
    const { normEpsilon, headWidth } = this.#config;
    const of = rowsOfAll(kept, flat.rows);
    copy(f32, x, of.x);
    const attention = normalise(f32, of.x, norms.attention, normEpsilon, of.n1);
    linears.attn_q.forward(of.n1, of.q);
    linears.attn_k.forward(of.n1, of.k);
    linears.attn_v.forward(of.n1, of.v);
    rotate(f32, of.q, flat.positions, this.#rotary, headWidth, 1);
    rotate(f32, of.k, flat.positions, this.#rotary, headWidth, 1);
    this.#attention.forward(flat.spans, of, of.mixed, probabilities);
    linears.attn_output.forward(of.mixed, of.middle);
    addTo(f32, of.x, of.middle);
    const ffn = normalise(f32, of.middle, norms.ffn, normEpsilon, of.n2);
    linears.ffn_gate.forward(of.n2, of.gate);
    linears.ffn_up.forward(of.n2, of.up);
    gated(f32, of.gate, of.up, of.act);
    linears.ffn_down.forward(of.act, x);
    addTo(f32, of.middle, x);
    return { attention, ffn };
  }

  /** d, the gradient by the block's output, becomes that by its input. */
  #blockBackward(block: Block, inverses: Inverses, flat: Flat, d: Matrix, lowest: boolean): void {
    const { norms, linears, kept, probabilities } = block;
    const { f32 } = this.#kernel;
    const of = rowsOfAll(kept, flat.rows);
    const rows = (matrix: Matrix, columns = matrix.columns): Matrix => ({
      ...rowsOf(matrix, 0, flat.rows),
      columns,
      stride: columns,
    });
    const dAct = rows(this.#buffers.wide, this.#config.ffn);
    const dn = rows(this.#buffers.dn);
    linears.ffn_down.backward(of.act, d, dAct, false);
    gatedBack(f32, of.gate, of.up, dAct);
    linears.ffn_gate.backward(of.n2, of.gate, dn, false);
    linears.ffn_up.backward(of.n2, of.up, dn, true);
    normaliseBack(f32, of.middle, norms.ffn, inverses.ffn, dn, d);
    const dMixed = rows(this.#buffers.wide, of.mixed.columns);
    linears.attn_output.backward(of.mixed, d, dMixed, false);
    const back: Heads = { q: rows(this.#buffers.dq), k: rows(this.#buffers.dk), v: rows(this.#buffers.dv) };
    this.#attention.backward(flat.spans, of, dMixed, probabilities, back);
    rotate(f32, back.q, flat.positions, this.#rotary, this.#config.headWidth, -1);
    rotate(f32, back.k, flat.positions, this.#rotary, this.#config.headWidth, -1);
    // Nothing is trained below the lowest block: its input needs no gradient.
    const below = lowest ? undefined : dn;
    linears.attn_q.backward(of.n1, back.q, below, false);
    linears.attn_k.backward(of.n1, back.k, below, true);
    linears.attn_v.backward(of.n1, back.v, below, true);
    if (!lowest) normaliseBack(f32, of.x, norms.attention, inverses.attention, dn, d);
  }

  /** Losses of the trained rows; `d` becomes the gradient by x, 0 where nothing is trained. */
  #headLoss(flat: Flat, x: Matrix, d: Matrix, examples: number, weight: number | undefined): ExampleScore[] {
    const { f32 } = this.#kernel;
    const { width, normEpsilon } = this.#config;
    const scores = Array.from({ length: examples }, (): ExampleScore => ({ loss: 0, hits: 0, trained: 0 }));
    f32.fill(0, d.at, d.at + d.rows * d.stride);
    for (let from = 0; from < flat.trained.length; from += HEAD_ROWS) {
      const some = flat.trained.slice(from, from + HEAD_ROWS);
      const hidden = rowsOf(this.#buffers.hidden, 0, some.length);
      const normed = rowsOf(this.#buffers.normed, 0, some.length);
      const logits = rowsOf(this.#buffers.logits, 0, some.length);
      some.forEach(({ row }, i) => f32.copyWithin(hidden.at + i * width, x.at + row * width, x.at + (row + 1) * width));
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
      const back = rowsOf(this.#buffers.wide2, 0, some.length);
      f32.fill(0, back.at, back.at + some.length * width);
      normaliseBack(f32, hidden, this.#outputNorm, inverses, normed, back);
      some.forEach(({ row }, i) => f32.copyWithin(d.at + row * width, back.at + i * width, back.at + (i + 1) * width));
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

function flatten(examples: readonly Example[]): Flat {
  const rows = examples.reduce((sum, { tokens }) => sum + tokens.length - 1, 0);
  const [tokens, positions] = [new Int32Array(rows), new Int32Array(rows)];
  const spans: Span[] = [];
  const trained: { row: number; target: number; example: number }[] = [];
  let at = 0;
  examples.forEach((each, example) => {
    spans.push({ from: at, length: each.tokens.length - 1 });
    for (let i = 0; i + 1 < each.tokens.length; i += 1, at += 1) {
      tokens[at] = each.tokens[i] as number;
      positions[at] = i;
      if (each.trained[i + 1] === 1) trained.push({ row: at, target: each.tokens[i + 1] as number, example });
    }
  });
  return { rows, tokens, positions, spans, trained };
}

function rowsOfAll<Name extends string>(matrices: Readonly<Record<Name, Matrix>>, rows: number): Record<Name, Matrix> {
  const entries = Object.entries<Matrix>(matrices).map(([name, matrix]) => [name, rowsOf(matrix, 0, rows)]);
  return Object.fromEntries(entries) as Record<Name, Matrix>;
}

function copy(f32: Float32Array, from: Matrix, to: Matrix): void {
  f32.copyWithin(to.at, from.at, from.at + from.rows * from.columns);
}

function addTo(f32: Float32Array, what: Matrix, to: Matrix): void {
  for (let i = 0; i < to.rows * to.columns; i += 1)
    f32[to.at + i] = (f32[to.at + i] as number) + (f32[what.at + i] as number);
}
