/** What goes into freehold-tiny's model files and into LoRA adapters for it. */

import { ASSISTANT, BEGIN, END, SPECIALS, SYSTEM, UNKNOWN, USER } from '../tokenizer.mjs';
import { TENSOR_TYPES, writeGguf } from './write-gguf.mjs';

/** llama.cpp's kinds of tokens. */
const NORMAL = 1;
const UNKNOWN_KIND = 2;
const CONTROL = 3;
const BYTE = 6;

function kindOf(piece, id) {
  if (id === UNKNOWN) return UNKNOWN_KIND;
  if ([BEGIN, END, USER, ASSISTANT, SYSTEM].includes(id)) return CONTROL;
  return /^<0x[0-9A-F]{2}>$/.test(piece) ? BYTE : NORMAL;
}

/** Matrices take the wanted type; vectors stay F32, as llama.cpp expects of norms. */
const typeOf = (tensor, quantisation) => (tensor.shape.length === 1 ? 'F32' : quantisation);

/**
 * The model as a GGUF file.
 *
 * @param options.config Sizes as in the weights' metadata.
 * @param options.tensors From the safetensors file, with llama.cpp's names.
 */
export function modelGguf({ config, tensors, tokenizer, chatTemplate, quantisation }) {
  const { pieces, scores } = tokenizer;
  const type = TENSOR_TYPES[quantisation];
  if (type === undefined)
    throw new Error(`quantisation: expected ${Object.keys(TENSOR_TYPES).join(', ')}, got '${quantisation}'.`);
  return writeGguf({
    metadata: [
      ['general.architecture', 'string', 'llama'],
      ['general.name', 'string', 'freehold-tiny'],
      ['general.license', 'string', 'apache-2.0'],
      ['general.file_type', 'u32', type.fileType],
      ['general.quantization_version', 'u32', 2],
      ['llama.vocab_size', 'u32', config.vocab],
      ['llama.context_length', 'u32', config.context],
      ['llama.embedding_length', 'u32', config.width],
      ['llama.block_count', 'u32', config.layers],
      ['llama.feed_forward_length', 'u32', config.ffn],
      ['llama.attention.head_count', 'u32', config.heads],
      ['llama.attention.head_count_kv', 'u32', config.heads],
      ['llama.attention.layer_norm_rms_epsilon', 'f32', config.normEpsilon],
      ['llama.rope.dimension_count', 'u32', config.width / config.heads],
      ['llama.rope.freq_base', 'f32', config.ropeBase],
      ['tokenizer.ggml.model', 'string', 'llama'],
      ['tokenizer.ggml.tokens', 'string[]', pieces],
      ['tokenizer.ggml.scores', 'f32[]', scores],
      ['tokenizer.ggml.token_type', 'i32[]', pieces.map(kindOf)],
      ['tokenizer.ggml.bos_token_id', 'u32', SPECIALS.indexOf('<s>')],
      ['tokenizer.ggml.eos_token_id', 'u32', SPECIALS.indexOf('</s>')],
      ['tokenizer.ggml.unknown_token_id', 'u32', UNKNOWN],
      // The chat template writes <s> itself, and no piece may be changed by a space nobody typed.
      ['tokenizer.ggml.add_bos_token', 'bool', false],
      ['tokenizer.ggml.add_eos_token', 'bool', false],
      ['tokenizer.ggml.add_space_prefix', 'bool', false],
      ['tokenizer.chat_template', 'string', chatTemplate],
    ],
    tensors: tensors.map((tensor) => ({ ...tensor, type: typeOf(tensor, quantisation) })),
  });
}

/**
 * A LoRA adapter for a Llama model as a GGUF file: W x becomes W x + alpha/r B (A x).
 *
 * @param options.alpha The adapter's alpha; llama.cpp divides it by the rank, which it reads from A.
 * @param options.pairs `{ name, a: { shape: [r, in], data }, b: { shape: [out, r], data } }`, name of the adapted tensor.
 */
export function loraGguf({ name = 'adapter', alpha, pairs, type = 'F32' }) {
  return writeGguf({
    metadata: [
      ['general.architecture', 'string', 'llama'],
      ['general.type', 'string', 'adapter'],
      ['general.name', 'string', name],
      ['general.file_type', 'u32', TENSOR_TYPES[type].fileType],
      ['adapter.type', 'string', 'lora'],
      ['adapter.lora.alpha', 'f32', alpha],
    ],
    tensors: pairs.flatMap(({ name: tensor, a, b }) => {
      if (a.shape[0] !== b.shape[1])
        throw new Error(`Adapter of ${tensor}: A has rank ${a.shape[0]}, B has rank ${b.shape[1]}.`);
      return [
        { name: `${tensor}.lora_a`, ...a, type },
        { name: `${tensor}.lora_b`, ...b, type },
      ];
    }),
  });
}
