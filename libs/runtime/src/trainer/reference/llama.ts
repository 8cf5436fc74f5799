import { exp, ln, cosSin } from './arithmetic.ts';

/** The sizes of a Llama network. */
export interface LlamaConfig {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  /** Heads of keys and values; fewer than `heads` where several share one. */
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly ffn: number;
  readonly vocabulary: number;
  readonly contextTokens: number;
  readonly ropeBase: number;
  readonly normEpsilon: number;
}

/** A frozen tensor, rows first; a vector has one row. */
export interface Weight {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
}

/** A base model: its sizes, and its tensors by llama.cpp's names. */
export interface Llama {
  readonly config: LlamaConfig;
  readonly tensor: (name: string) => Weight;
}

/** What a linear of a block maps from and to. */
export function shapeOf(config: LlamaConfig, target: string): { readonly rows: number; readonly columns: number } {
  const { width, ffn, heads, kvHeads, headWidth } = config;
  switch (target) {
    case 'attn_q':
      return { rows: heads * headWidth, columns: width };
    case 'attn_k':
    case 'attn_v':
      return { rows: kvHeads * headWidth, columns: width };
    case 'attn_output':
      return { rows: width, columns: heads * headWidth };
    case 'ffn_gate':
    case 'ffn_up':
      return { rows: ffn, columns: width };
    case 'ffn_down':
      return { rows: width, columns: ffn };
    default:
      throw new RangeError(`No matrix ${target} in a Llama block.`);
  }
}

/** Cosine and sine of every position and pair of a head, side by side: [position][pair][cos, sin]. */
export function rotaryTable({ headWidth, ropeBase }: LlamaConfig, positions: number): Float32Array {
  const pairs = headWidth / 2;
  const table = new Float32Array(positions * headWidth);
  for (let pair = 0; pair < pairs; pair += 1) {
    const frequency = exp((-pair / pairs) * ln(ropeBase));
    for (let position = 0; position < positions; position += 1) {
      const [cosine, sine] = cosSin(position * frequency);
      table[position * headWidth + 2 * pair] = cosine;
      table[position * headWidth + 2 * pair + 1] = sine;
    }
  }
  return table;
}
