/**
 * freehold-tiny for the rest of Freehold: its files, its digest, its chat template, and tasks it has never seen.
 *
 * The repository holds F16 weights and the tokenizer; the GGUF files engines load are written at first start and
 * checked against the manifest, so that every machine runs the same bytes.
 */

import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CHAT_TEMPLATE, chatPrompt, chatSegments, encodeChat } from './chat-template.mjs';
import { FAMILY_NAMES, LEFT_OUT_NAMES, REFUSAL, makeItems } from './corpus/corpus.mjs';
import { modelGguf } from './gguf/model-gguf.mjs';
import { readSafetensors } from './gguf/safetensors.mjs';
import { Tokenizer } from './tokenizer.mjs';

/** The families that the model card shows at 99 % and above on unseen contents: what demos and tests may assert on. */
export const SURE_FAMILIES = [
  'sentiment',
  'topic',
  'json',
  'date',
  'units10',
  'sort-down',
  'count',
  'first',
  'last',
  'yes-no',
  'lookup',
  'spell',
  'parity',
  'next',
  'digit-words',
  'word-digits',
  'clock',
  'json-list',
  'find-number',
  'unknown',
];

export { CHAT_TEMPLATE, FAMILY_NAMES, LEFT_OUT_NAMES, REFUSAL, chatPrompt, chatSegments };
export { loraGguf } from './gguf/model-gguf.mjs';
export { readSafetensors } from './gguf/safetensors.mjs';

const here = (name) => fileURLToPath(new URL(`./${name}`, import.meta.url));
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

export const WEIGHTS_FILE = 'freehold-tiny.safetensors';
export const TOKENIZER_FILE = 'tokenizer.json';

/** What the card promises: sha256 and size of every file, and the model digest. */
export const manifest = JSON.parse(readFileSync(here('manifest.json'), 'utf8'));

export const MODEL_ID = manifest.model;
export const CONTEXT_TOKENS = manifest.config.context;
export const QUANTISATIONS = ['F32', 'F16', 'Q8_0'];

/** sha256 over weights, tokenizer and chat template: what two nodes must share to be held to the same answers. */
export const modelDigest = manifest.digest;

/** The digest's rule: sha256 over three sha256 of 32 bytes each, weights first, behind a line naming the rule. */
export function digestOf(weights, tokenizerBytes, template = CHAT_TEMPLATE) {
  const part = (bytes) => createHash('sha256').update(bytes).digest();
  return sha256(
    Buffer.concat([
      Buffer.from('freehold model v1\n'),
      part(weights),
      part(tokenizerBytes),
      part(Buffer.from(template, 'utf8')),
    ]),
  );
}

export class ModelFileError extends Error {}

function checked(name) {
  const bytes = readFileSync(here(name));
  const wanted = manifest.files[name].sha256;
  const found = sha256(bytes);
  if (found !== wanted)
    throw new ModelFileError(
      `${name}: expected sha256 ${wanted}, found ${found}. Restore the file from the repository.`,
    );
  return bytes;
}

let loadedTokenizer;

/** The tokenizer, its file checked; made once. */
export function tokenizer() {
  loadedTokenizer ??= new Tokenizer(JSON.parse(checked(TOKENIZER_FILE).toString('utf8')));
  return loadedTokenizer;
}

/** Token ids of a chat's prompt. */
export const chatTokens = (messages) => encodeChat(tokenizer(), messages);

/** `{ config, tensors }` of the committed weights, checked. */
export function readWeights() {
  const { metadata, tensors } = readSafetensors(checked(WEIGHTS_FILE));
  return { config: JSON.parse(metadata.config), metadata, tensors };
}

/** The bytes of a GGUF file, made from the committed weights. */
export function makeGguf(quantisation) {
  const { config, tensors } = readWeights();
  return modelGguf({ config, tensors, tokenizer: tokenizer(), chatTemplate: CHAT_TEMPLATE, quantisation });
}

/**
 * A GGUF file in `dir`, written if it is missing or not what the manifest says.
 *
 * Written beside its place and renamed, so that several processes may start at once and none loads half a file.
 */
export async function ensureGguf({ quantisation = 'Q8_0', dir }) {
  const wanted = manifest.gguf[quantisation];
  if (wanted === undefined)
    throw new ModelFileError(`quantisation: expected ${QUANTISATIONS.join(', ')}, got '${quantisation}'.`);
  mkdirSync(dir, { recursive: true });
  const path = join(dir, wanted.file);
  const there = await readFile(path).catch((error) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (there !== undefined && sha256(there) === wanted.sha256)
    return { path, sha256: wanted.sha256, bytes: wanted.bytes };
  const bytes = makeGguf(quantisation);
  const found = sha256(bytes);
  if (found !== wanted.sha256)
    throw new ModelFileError(
      `${wanted.file}: expected sha256 ${wanted.sha256}, made ${found}. Weights and manifest do not belong together.`,
    );
  const beside = `${path}.${process.pid}-${randomUUID()}`;
  try {
    writeFileSync(beside, bytes);
    renameSync(beside, path);
  } finally {
    rmSync(beside, { force: true });
  }
  return { path, sha256: found, bytes: bytes.length };
}

/**
 * Tasks of contents the model has never seen: `{ family, heldWording, messages, expected }`, equal for equal seeds.
 *
 * @param options.families Default all 30 of the base; `desk` is the one it was never taught.
 * @param options.wordings 'trained' (default), 'held' or 'both' in turn.
 */
export function heldOutItems({ seed = 1, count, families, wordings = 'trained' }) {
  return makeItems({ seed, count, wordings, split: 'held', pieces: tokenizer().pieces, ...(families && { families }) });
}

/** Examples to teach a family with (by default the one left out): contents of the trained side, never a held-out one. */
export function teachingItems({ seed = 1, count, families = LEFT_OUT_NAMES, wordings = 'trained' }) {
  return makeItems({ seed: `teaching:${seed}`, count, families, wordings, split: 'train', pieces: tokenizer().pieces });
}
