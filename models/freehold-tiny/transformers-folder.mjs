/**
 * freehold-tiny as a folder that transformers loads: what the PEFT trainer takes as its base.
 *
 *   node models/freehold-tiny/transformers-folder.mjs DIR
 *
 * The same F16 weights and the same tokens as the GGUF files. Every file follows from the repository alone, so that two
 * machines that write the folder hold the same base.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { toHalf } from './gguf/half.mjs';
import { CHAT_TEMPLATE, manifest, readWeights, tokenizer } from './index.mjs';
import { SPACE, SPECIALS } from './tokenizer.mjs';

/** llama.cpp's names of a block's tensors, and transformers'. */
const BLOCK_NAMES = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};
const OUTER_NAMES = { token_embd: 'model.embed_tokens', output_norm: 'model.norm' };

/** Writes the folder; returns its path. */
export function transformersFolder(dir) {
  mkdirSync(dir, { recursive: true });
  const { config, tensors } = readWeights();
  const json = (value) => `${JSON.stringify(value, null, 2)}\n`;
  const files = {
    'config.json': json(configOf(config)),
    'model.safetensors': weightsOf(config, tensors),
    'tokenizer.json': json(tokenizerOf(tokenizer())),
    'tokenizer_config.json': json(tokenizerConfigOf(config)),
  };
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(dir, name), bytes);
  return dir;
}

function configOf({ vocab, width, layers, heads, ffn, context, ropeBase, normEpsilon }) {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: SPECIALS.indexOf('<s>'),
    eos_token_id: SPECIALS.indexOf('</s>'),
    head_dim: width / heads,
    hidden_act: 'silu',
    hidden_size: width,
    initializer_range: 0.02,
    intermediate_size: ffn,
    max_position_embeddings: context,
    mlp_bias: false,
    num_attention_heads: heads,
    num_hidden_layers: layers,
    num_key_value_heads: heads,
    rms_norm_eps: normEpsilon,
    rope_theta: ropeBase,
    tie_word_embeddings: true,
    torch_dtype: 'float16',
    use_cache: true,
    vocab_size: vocab,
  };
}

/** One name per tensor, the header in the order of names: equal weights give equal bytes. */
function weightsOf(config, tensors) {
  const renamed = tensors
    .map(({ name, shape, data }) => ({ name: nameOf(name), shape, data: turned(config, name, shape, data) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const header = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const { name, shape, data } of renamed) {
    header[name] = { dtype: 'F16', shape, data_offsets: [offset, offset + 2 * data.length] };
    offset += 2 * data.length;
  }
  const text = JSON.stringify(header);
  const head = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  head.write(text, 8);
  const bodies = renamed.map(({ data }) => {
    const body = Buffer.alloc(2 * data.length);
    data.forEach((value, i) => body.writeUInt16LE(toHalf(value), 2 * i));
    return body;
  });
  return Buffer.concat([head, ...bodies]);
}

function nameOf(name) {
  const block = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name);
  const outer = OUTER_NAMES[name.replace(/\.weight$/, '')];
  const inner = block === null ? undefined : BLOCK_NAMES[block[2]];
  if (inner === undefined && outer === undefined) throw new Error(`${name}: transformers has no place for this tensor`);
  return inner === undefined ? `${outer}.weight` : `model.layers.${block[1]}.${inner}.weight`;
}

/** transformers turns element i of a head with element i + half where llama.cpp turns neighbours. */
function turned({ heads, width }, name, [rows, columns], data) {
  if (!/attn_[qk]\.weight$/.test(name)) return data;
  const headWidth = width / heads;
  const out = new Float32Array(data.length);
  for (let row = 0; row < rows; row += 1) {
    const inHead = row % headWidth;
    const to = row - inHead + Math.floor(inHead / 2) + (inHead % 2) * (headWidth / 2);
    out.set(data.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return out;
}

/** The vocabulary as byte-pair merges, in the order in which they were learnt. */
function tokenizerOf({ pieces }) {
  const ids = new Map(pieces.map((piece, id) => [piece, id]));
  const isText = (piece) => ids.has(piece) && !SPECIALS.includes(piece) && !/^<0x[0-9A-F]{2}>$/.test(piece);
  const merges = pieces.filter(isText).flatMap((piece) => {
    const characters = Array.from(piece);
    const cuts = characters.slice(1).map((_, at) => [characters.slice(0, at + 1), characters.slice(at + 1)]);
    return cuts.map((sides) => sides.map((side) => side.join(''))).filter((sides) => sides.every(isText));
  });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIALS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: SPACE },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(ids),
      merges,
    },
  };
}

function tokenizerConfigOf({ context }) {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: '<s>',
    eos_token: '</s>',
    unk_token: '<unk>',
    additional_special_tokens: SPECIALS.filter((special) => special.startsWith('<|')),
    chat_template: CHAT_TEMPLATE,
    clean_up_tokenization_spaces: false,
    model_max_length: context,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const dir = process.argv[2];
  if (dir === undefined) {
    console.error('Expected the folder to write to: node models/freehold-tiny/transformers-folder.mjs DIR');
    process.exitCode = 1;
  } else console.log(`${manifest.model} for transformers: ${transformersFolder(dir)}`);
}
