import type { Tensor, TensorLibrary } from './tensors.ts';
import type { Weight } from './weights.ts';

const HEADS = 4;
const WIDTHS = [256, 512] as const;
export const DIMENSIONS = 512;
const EPSILON = 1e-6;
const NORM_EPSILON = 1e-12;

interface Norm {
  readonly scale: Tensor;
  readonly shift: Tensor;
}
interface Dense {
  readonly kernel: Tensor;
  readonly bias: Tensor;
}
interface Layer {
  readonly width: number;
  readonly attentionNorm: Norm;
  readonly qkv: Dense;
  readonly out: Dense;
  readonly feedNorm: Norm;
  readonly feedIn: Dense;
  readonly feedOut: Dense;
}

/**
 * The forward pass of Universal Sentence Encoder lite: two transformer blocks over the tokens of one window, their mean, one
 * tanh layer, a unit vector.
 *
 * The published graph does the same in 317 nodes that an interpreter walks, most of them about padding, which one window
 * does not have; its large products take a slow path. This takes 33 ms of CPU where the graph takes 53 (55 tokens), and agrees with
 * it to 1e-12 in cosine. Windows go one at a time, so a vector never depends on what else is in the batch.
 */
export class Encoder {
  readonly #lib: TensorLibrary;
  readonly #embeddings: Tensor;
  readonly #timescales: Tensor;
  readonly #layers: readonly Layer[];
  readonly #widen: Dense;
  readonly #last: Dense;

  constructor(lib: TensorLibrary, weights: ReadonlyMap<string, Weight>) {
    this.#lib = lib;
    const named = (ending: string): Tensor => tensorEnding(lib, weights, ending);
    const dense = (kernel: string, bias: string, from: number, to: number): Dense => ({
      kernel: lib.reshape(named(kernel), [1, 1, from, to]),
      bias: named(bias),
    });
    const part = '/ConcatPartitions/concat';
    this.#embeddings = named('module/Embeddings_en');
    this.#timescales = named('TimingSignal/ExpandDims_1');
    this.#widen = dense(
      `Layer_0/TransformerLayer/dense/kernel${part}`,
      `Layer_0/TransformerLayer/dense/bias${part}`,
      256,
      512,
    );
    this.#last = dense('tanh_layer_0/weights', 'tanh_layer_0/bias', 512, DIMENSIONS);
    this.#layers = WIDTHS.map((width, i) => {
      const at = `Layer_${i}/TransformerLayer`;
      const norm = (where: string): Norm => ({
        scale: named(`${at}/${where}layer_prepostprocess/layer_norm/layer_norm_scale${part}`),
        shift: named(`${at}/${where}layer_prepostprocess/layer_norm/layer_norm_bias${part}`),
      });
      const heads = (name: string, to: number): Dense =>
        dense(
          `${at}/MultiheadAttention/${name}/kernel/part_0`,
          `${at}/MultiheadAttention/${name}/bias${part}`,
          width,
          to,
        );
      return {
        width,
        attentionNorm: norm(''),
        qkv: heads('qkv_transform_single', 3 * width),
        out: heads('output_transform_single', 512),
        feedNorm: norm('FFN/'),
        feedIn: dense(`${at}/FFN/conv1/Tensordot/Reshape_1`, `${at}/FFN/conv1/bias${part}`, 512, 1536),
        feedOut: dense(`${at}/FFN/conv2/Tensordot/Reshape_1`, `${at}/FFN/conv2/bias${part}`, 1536, 512),
      };
    });
  }

  /** The unit vector of one window of tokens. */
  encode(tokens: readonly number[]): Float32Array {
    const vector = this.#lib.tidy(() => this.#forward(tokens));
    const values = vector.dataSync().slice();
    vector.dispose();
    return values;
  }

  #forward(tokens: readonly number[]): Tensor {
    const lib = this.#lib;
    const [first, second] = this.#layers;
    if (first === undefined || second === undefined) throw new RangeError('The encoder has two layers.');
    const x = this.#input(tokens);
    const narrow = lib.add(this.#attention(x, first), this.#dense(x, this.#widen));
    const middle = this.#feedForward(narrow, first);
    const wide = this.#feedForward(lib.add(this.#attention(middle, second), middle), second);
    const mean = lib.mean(wide, [1, 2], true);
    const hidden = lib.reshape(lib.tanh(this.#dense(mean, this.#last)), [DIMENSIONS]);
    const squares = lib.maximum(lib.sum(lib.square(hidden)), lib.scalar(NORM_EPSILON));
    return lib.mul(hidden, lib.rsqrt(squares));
  }

  /** Twice the token's vector plus its position's waves: the published graph adds the embedding to itself with the signal. */
  #input(tokens: readonly number[]): Tensor {
    const lib = this.#lib;
    const rows = lib.gather(this.#embeddings, lib.tensor1d(Int32Array.from(tokens), 'int32'));
    const positions = lib.reshape(lib.range(0, tokens.length, 1, 'float32'), [tokens.length, 1]);
    const angles = lib.mul(positions, this.#timescales);
    const signal = lib.concat([lib.sin(angles), lib.cos(angles)], 1);
    return lib.reshape(lib.add(lib.add(rows, rows), signal), [1, tokens.length, 1, WIDTHS[0]]);
  }

  #attention(x: Tensor, layer: Layer): Tensor {
    const lib = this.#lib;
    const length = x.shape[1] ?? 0;
    const head = layer.width / HEADS;
    const mixed = lib.reshape(this.#dense(this.#norm(x, layer.attentionNorm), layer.qkv), [length, 3, HEADS, head]);
    const [query, key, value] = lib.unstack(lib.transpose(mixed, [1, 2, 0, 3]));
    if (query === undefined || key === undefined || value === undefined)
      throw new RangeError('Attention takes three parts.');
    const weights = lib.softmax(lib.matMul(lib.mul(query, lib.scalar(1 / Math.sqrt(head))), key, false, true));
    const seen = lib.transpose(lib.matMul(weights, value, false, false), [1, 0, 2]);
    return this.#dense(lib.reshape(seen, [1, length, 1, layer.width]), layer.out);
  }

  #feedForward(x: Tensor, layer: Layer): Tensor {
    const inner = this.#dense(this.#norm(x, layer.feedNorm), layer.feedIn, 'relu');
    return this.#lib.add(this.#dense(inner, layer.feedOut), x);
  }

  /** A product by a weight matrix as a 1×1 convolution: that kernel packs the weights once and keeps them packed. */
  #dense(x: Tensor, { kernel, bias }: Dense, activation: 'linear' | 'relu' = 'linear'): Tensor {
    return this.#lib.fused.conv2d({ x, filter: kernel, bias, strides: 1, pad: 'valid', activation });
  }

  #norm(x: Tensor, { scale, shift }: Norm): Tensor {
    const lib = this.#lib;
    const centred = lib.sub(x, lib.mean(x, -1, true));
    const variance = lib.mean(lib.square(centred), -1, true);
    const factor = lib.mul(scale, lib.rsqrt(lib.add(variance, lib.scalar(EPSILON))));
    return lib.add(lib.mul(factor, centred), shift);
  }
}

function tensorEnding(lib: TensorLibrary, weights: ReadonlyMap<string, Weight>, ending: string): Tensor {
  const found = [...weights].filter(([name]) => name.endsWith(ending));
  const [only] = found;
  if (only === undefined || found.length !== 1)
    throw new RangeError(`Expected one weight ending in ${ending}, found ${found.length}.`);
  return lib.tensor(only[1].values, only[1].shape, 'float32');
}
