#!/usr/bin/env node
/** Writes manifest.json from the weights, the tokenizer and the chat template: `node make-manifest.mjs`. */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { CHAT_TEMPLATE } from './chat-template.mjs';
import { modelGguf } from './gguf/model-gguf.mjs';
import { readSafetensors } from './gguf/safetensors.mjs';
import { Tokenizer } from './tokenizer.mjs';

const at = (name) => new URL(`./${name}`, import.meta.url);
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

// index.mjs reads the manifest when it is loaded; the first manifest has to stand before that.
if (!existsSync(at('manifest.json'))) writeFileSync(at('manifest.json'), '{"config":{},"files":{},"gguf":{}}');
const { QUANTISATIONS, TOKENIZER_FILE, WEIGHTS_FILE, digestOf } = await import('./index.mjs');

const weights = readFileSync(at(WEIGHTS_FILE));
const tokenizerBytes = readFileSync(at(TOKENIZER_FILE));
const { metadata, tensors } = readSafetensors(weights);
const config = JSON.parse(metadata.config);
const tokenizer = new Tokenizer(JSON.parse(tokenizerBytes.toString('utf8')));
const describe = (bytes) => ({ sha256: sha256(bytes), bytes: bytes.length });

const manifest = {
  model: 'freehold-tiny',
  digest: digestOf(weights, tokenizerBytes),
  parameters: tensors.reduce((sum, tensor) => sum + tensor.data.length, 0),
  config,
  training: { seed: Number(metadata.seed), step: Number(metadata.step), steps: Number(metadata.steps) },
  chatTemplate: { sha256: sha256(Buffer.from(CHAT_TEMPLATE, 'utf8')) },
  files: { [WEIGHTS_FILE]: describe(weights), [TOKENIZER_FILE]: describe(tokenizerBytes) },
  gguf: Object.fromEntries(
    QUANTISATIONS.map((quantisation) => {
      const bytes = modelGguf({ config, tensors, tokenizer, chatTemplate: CHAT_TEMPLATE, quantisation });
      return [quantisation, { file: `freehold-tiny-${quantisation}.gguf`, ...describe(bytes) }];
    }),
  ),
};
writeFileSync(at('manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
console.log(JSON.stringify(manifest, null, 2));
