/** A number is f32 unless it is marked as an integer; GGUF knows both. */
type MetadataValue =
  | string
  | boolean
  | { readonly u32: number }
  | { readonly f32: number }
  | readonly string[]
  | { readonly i32s: readonly number[] }
  | { readonly f32s: readonly number[] };

interface Tensor {
  readonly name: string;
  /** Fastest dimension first, as GGUF has it. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

const ALIGNMENT = 32;
const TYPE = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;
const WIDTH = 32;
const HEADS = 2;
const FFN = 64;
const LAYERS = 2;
export const RANDOM_GGUF_CONTEXT = 128;
const SPECIALS = ['<unk>', '<s>', '</s>', '<|user|>', '<|assistant|>'] as const;
const VOCAB = SPECIALS.length + 256 + 95;

/**
 * A Llama of two tiny layers with random weights from a seed, as the bytes of a GGUF v3 file (F32).
 *
 * It says nothing sensible, and that is its use: engines are tested with broken characters, long answers and near ties, on
 * any machine, without a trained model.
 */
export function randomGguf(seed: number): Buffer {
  return writeGguf(metadata(), tensors(seed));
}

function metadata(): Record<string, MetadataValue> {
  const printable = Array.from({ length: 95 }, (_, i) => (i === 0 ? '\u2581' : String.fromCharCode(32 + i)));
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  return {
    'general.architecture': 'llama',
    'general.name': 'random',
    'llama.context_length': { u32: RANDOM_GGUF_CONTEXT },
    'llama.embedding_length': { u32: WIDTH },
    'llama.block_count': { u32: LAYERS },
    'llama.feed_forward_length': { u32: FFN },
    'llama.rope.dimension_count': { u32: WIDTH / HEADS },
    'llama.attention.head_count': { u32: HEADS },
    'llama.attention.layer_norm_rms_epsilon': { f32: 1e-5 },
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': [...SPECIALS, ...bytes, ...printable],
    'tokenizer.ggml.scores': { f32s: Array.from({ length: VOCAB }, (_, i) => -i) },
    'tokenizer.ggml.token_type': { i32s: [2, 3, 3, 3, 3, ...bytes.map(() => 6), ...printable.map(() => 1)] },
    'tokenizer.ggml.bos_token_id': { u32: 1 },
    'tokenizer.ggml.eos_token_id': { u32: 2 },
    'tokenizer.ggml.add_bos_token': false,
    'tokenizer.ggml.add_space_prefix': false,
    'tokenizer.chat_template':
      "{{ '<s>' }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}{{ '<|assistant|>' }}",
  };
}

function tensors(seed: number): Tensor[] {
  const random = normal(seed);
  const matrix = (name: string, ...shape: number[]): Tensor => {
    const size = shape.reduce((a, b) => a * b);
    return { name, shape, values: Float32Array.from({ length: size }, () => random() / Math.sqrt(shape[0] ?? 1)) };
  };
  const ones = (name: string): Tensor => ({ name, shape: [WIDTH], values: new Float32Array(WIDTH).fill(1) });
  const layers = Array.from({ length: LAYERS }, (_, i) => [
    ones(`blk.${i}.attn_norm.weight`),
    ones(`blk.${i}.ffn_norm.weight`),
    ...['attn_q', 'attn_k', 'attn_v', 'attn_output'].map((part) => matrix(`blk.${i}.${part}.weight`, WIDTH, WIDTH)),
    matrix(`blk.${i}.ffn_gate.weight`, WIDTH, FFN),
    matrix(`blk.${i}.ffn_up.weight`, WIDTH, FFN),
    matrix(`blk.${i}.ffn_down.weight`, FFN, WIDTH),
  ]);
  const head = matrix('output.weight', WIDTH, VOCAB);
  return [matrix('token_embd.weight', WIDTH, VOCAB), ...layers.flat(), ones('output_norm.weight'), head];
}

/** Standard normal numbers from a seed (mulberry32 and Box–Muller). */
function normal(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function writeGguf(meta: Record<string, MetadataValue>, all: readonly Tensor[]): Buffer {
  const parts: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(all.length), u64(Object.keys(meta).length)];
  for (const [key, value] of Object.entries(meta)) parts.push(text(key), valueBytes(value));
  let offset = 0;
  for (const tensor of all) {
    parts.push(text(tensor.name), u32(tensor.shape.length), ...tensor.shape.map(u64), u32(0), u64(offset));
    offset += padded(tensor.values.byteLength);
  }
  const head = Buffer.concat(parts);
  const body = all.map((tensor) => pad(Buffer.from(tensor.values.buffer)));
  return Buffer.concat([pad(head), ...body]);
}

function valueBytes(value: MetadataValue): Buffer {
  if (typeof value === 'string') return Buffer.concat([u32(TYPE.string), text(value)]);
  if (typeof value === 'boolean') return Buffer.concat([u32(TYPE.bool), Buffer.from([value ? 1 : 0])]);
  if ('u32' in value) return Buffer.concat([u32(TYPE.u32), u32(value.u32)]);
  if ('f32' in value) return Buffer.concat([u32(TYPE.f32), f32(value.f32)]);
  if ('i32s' in value) return array(TYPE.i32, value.i32s.map(u32));
  if ('f32s' in value) return array(TYPE.f32, value.f32s.map(f32));
  return array(TYPE.string, value.map(text));
}

function array(type: number, items: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(TYPE.array), u32(type), u64(items.length), ...items]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function pad(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(padded(bytes.length) - bytes.length)]);
}
