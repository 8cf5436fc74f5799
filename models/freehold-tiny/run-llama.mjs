/**
 * freehold-tiny through llama.cpp (node-llama-cpp): one sequence, one thread, greedy. What the proof of use, the
 * accuracy bench, the comparison and the test share; the market's own engine lives in libs/runtime.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chatTokens, ensureGguf, manifest, tokenizer } from './index.mjs';
import { END } from './tokenizer.mjs';

/**
 * @import { Token } from 'node-llama-cpp'
 * @import { ChatMessage, Quantisation } from './index.mjs'
 */

/** Longest answer of any family, with room: 7 words to copy, spelled in single bytes. */
const ANSWER_TOKENS_MAX = 160;

/**
 * @param {object} [options]
 * @param {Quantisation} [options.quantisation]
 * @param {string} [options.dir] Where the model's file is kept; absent: in a folder that goes when the model is closed.
 * @param {string} [options.adapter] A LoRA adapter as a GGUF file, to be applied.
 */
export async function openModel({ quantisation = 'Q8_0', dir, adapter } = {}) {
  const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
  const folder = dir ?? mkdtempSync(join(tmpdir(), 'freehold-tiny-'));
  const { path, sha256 } = await ensureGguf({ quantisation, dir: folder });
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: 1 });
  const model = await llama.loadModel({ modelPath: path });
  const context = await model.createContext({
    contextSize: manifest.config.context,
    sequences: 1,
    threads: 1,
    ...(adapter === undefined ? {} : { lora: adapter }),
  });
  const sequence = context.getSequence();
  return {
    model,
    context,
    sequence,
    path,
    sha256,
    /**
     * The greedy answer.
     *
     * @param {readonly ChatMessage[]} messages
     */
    async answer(messages) {
      const prompt = /** @type {Token[]} */ (chatTokens(messages));
      /** @type {number[]} */
      const ids = [];
      await sequence.clearHistory();
      const room = Math.min(ANSWER_TOKENS_MAX, manifest.config.context - prompt.length);
      for await (const id of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
        if (id === END || ids.length >= room) break;
        ids.push(id);
      }
      return { text: tokenizer().decode(ids), ids, promptTokens: prompt.length };
    },
    async close() {
      await context.dispose();
      await model.dispose();
      await llama.dispose();
      if (dir === undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}
