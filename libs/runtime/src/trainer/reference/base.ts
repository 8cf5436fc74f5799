import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { TrainerError } from '@freehold/market/trainer';
import { LORA_TARGETS } from '@freehold/protocol/trainer';
import { readGguf, type Gguf, type GgufValue } from './read-gguf.ts';
import { shapeOf, type Llama, type LlamaConfig, type Weight } from './llama.ts';
import { SpmTokenizer } from './spm-tokenizer.ts';

/** A base model ready to be tuned. */
export interface Base {
  readonly llama: Llama;
  readonly tokenizer: SpmTokenizer;
  /** The Jinja template that turns a chat into a prompt. */
  readonly chatTemplate: string;
}

/** What a size may be: more is a broken file, not a model. */
const SIZE_MAX = 1 << 20;

/** Reads a GGUF file of the Llama architecture. @throws {TrainerError} When it is another file, or cannot be read. */
export async function readBase(path: string, sha256: string): Promise<Base> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new TrainerError('base_unreadable', `The base cannot be read: ${String(error)}`, true);
  });
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== sha256) {
    const message = `${path} has sha256 ${found}, the plan names ${sha256}: fetch the base of this plan.`;
    throw new TrainerError('base_mismatch', message, false);
  }
  return baseOf(readGguf(bytes));
}

function baseOf(gguf: Gguf): Base {
  const { metadata } = gguf;
  const architecture = metadata.get('general.architecture');
  if (architecture !== 'llama')
    throw unsupported(`its architecture is ${String(architecture)}; the reference trainer trains llama`);
  if (metadata.has('llama.rope.scaling.type') && metadata.get('llama.rope.scaling.type') !== 'none')
    throw unsupported('its rotary positions are scaled');
  const chatTemplate = metadata.get('tokenizer.chat_template');
  if (typeof chatTemplate !== 'string') throw unsupported('it carries no chat template');
  const config = configOf(metadata, gguf);
  return { llama: { config, tensor: tensorsOf(gguf, config) }, tokenizer: SpmTokenizer.of(metadata), chatTemplate };
}

function configOf(metadata: ReadonlyMap<string, GgufValue>, gguf: Gguf): LlamaConfig {
  const number = (key: string, otherwise?: number): number => {
    const value = metadata.get(key) ?? otherwise;
    if (typeof value !== 'number' || !(value > 0) || value > SIZE_MAX) throw unsupported(`${key} is ${String(value)}`);
    return value;
  };
  const width = number('llama.embedding_length');
  const heads = number('llama.attention.head_count');
  const kvHeads = number('llama.attention.head_count_kv', heads);
  const headWidth = number('llama.rope.dimension_count', width / heads);
  if (heads % kvHeads !== 0 || headWidth % 2 !== 0 || headWidth * heads !== width)
    throw unsupported(`${heads} heads of ${headWidth} and ${kvHeads} of keys do not make a width of ${width}`);
  return {
    width,
    heads,
    kvHeads,
    headWidth,
    layers: number('llama.block_count'),
    ffn: number('llama.feed_forward_length'),
    vocabulary: gguf.tensors.get('token_embd.weight')?.shape[0] ?? 0,
    contextTokens: number('llama.context_length'),
    ropeBase: number('llama.rope.freq_base', 10_000),
    normEpsilon: number('llama.attention.layer_norm_rms_epsilon'),
  };
}

/** Tensors by name, their shapes checked: the kernel believes what it is given. */
function tensorsOf(gguf: Gguf, config: LlamaConfig): (name: string) => Weight {
  const embedding = { rows: config.vocabulary, columns: config.width };
  return (name) => {
    // A tied head is the embedding.
    const stored = name === 'output.weight' && !gguf.tensors.has(name) ? 'token_embd.weight' : name;
    const tensor = gguf.tensors.get(stored);
    if (tensor === undefined) throw unsupported(`tensor ${stored} is missing`);
    const part = /^blk\.\d+\.(\w+)\.weight$/u.exec(name)?.[1] ?? '';
    const wanted = LORA_TARGETS.some((target) => target === part)
      ? shapeOf(config, part)
      : name.endsWith('norm.weight')
        ? { rows: 1, columns: config.width }
        : embedding;
    const [rows, columns] = tensor.shape.length === 1 ? [1, ...tensor.shape] : tensor.shape;
    if (rows !== wanted.rows || columns !== wanted.columns || tensor.shape.length > 2)
      throw unsupported(`tensor ${name} is [${tensor.shape.join(', ')}], expected [${wanted.rows}, ${wanted.columns}]`);
    return { ...wanted, data: tensor.read() };
  };
}

function unsupported(why: string): TrainerError {
  return new TrainerError('plan_unsupported', `The base cannot be tuned here: ${why}.`, false);
}
