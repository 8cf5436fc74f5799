import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { ChatOutput, ChatWork } from '@freehold/protocol';
import {
  chatTokens,
  ensureGguf,
  heldOutItems,
  manifest,
  modelDigest,
} from '../../../../models/freehold-tiny/index.mjs';
import { childEngine, type ChildEngine } from '../child-process/child-engine.ts';
import { FREEHOLD_TINY_TEMPLATE } from './options.ts';

jest.setTimeout(60_000);
const folder = mkdtempSync(join(tmpdir(), 'freehold-tiny-engine-'));
const never = new AbortController().signal;
const SAMPLED = { temperature: 0.8, topP: 0.9, seed: 11 };
const work = (messages: ChatWork['messages'], overrides: Partial<ChatWork> = {}): ChatWork => ({
  kind: 'chat',
  messages,
  maxTokens: 48,
  temperature: 0,
  topP: 1,
  seed: 1,
  stop: [],
  topLogprobs: 0,
  logprobs: false,
  ...overrides,
});

describe('freehold-tiny in llama.cpp', () => {
  const engines = new Map<string, ChildEngine>();
  beforeAll(async () => {
    for (const quantisation of ['Q8_0', 'F32'] as const) {
      const { path, sha256 } = await ensureGguf({ quantisation, dir: folder });
      const model = {
        name: 'freehold-tiny',
        path,
        fileSha256: sha256,
        digest: `sha256:${modelDigest}`,
        template: FREEHOLD_TINY_TEMPLATE,
        quantisation,
      };
      engines.set(quantisation, childEngine({ engine: 'llama-cpp', options: { models: [model] }, memoryMib: 512 }));
    }
  });
  afterAll(async () => {
    await Promise.all([...engines.values()].map((engine) => engine.close()));
    rmSync(folder, { recursive: true });
  });

  const the = (quantisation: string): ChildEngine => {
    const engine = engines.get(quantisation);
    if (engine === undefined) throw new Error(`no engine for ${quantisation}`);
    return engine;
  };
  const ask = async (quantisation: string, asked: ChatWork): Promise<ChatOutput> => {
    const output = await the(quantisation).chat('freehold-tiny', asked, () => {}, never);
    if (output.kind !== 'chat') throw new Error(output.message);
    return output;
  };
  const margin = async (quantisation: string, asked: ChatWork, output: ChatOutput): Promise<number> => {
    const score = await the(quantisation).score('freehold-tiny', 0, asked, output, never);
    if (score.kind !== 'chat') throw new Error(`expected a chat score, got ${score.kind}`);
    expect(score.text).toBe(output.text);
    expect(score.unitsIn).toBe(output.unitsIn);
    return Math.max(...score.tokens.map((token) => token.bestLogprob - token.logprob));
  };

  it('says what it takes of memory: the size of its file, and what a token keeps by the shape in it', async () => {
    const { layers, width } = manifest.config;
    for (const quantisation of ['Q8_0', 'F32'] as const) {
      const [model] = (await the(quantisation).describe()).models;
      const weightsMib = Math.ceil((manifest.gguf[quantisation]?.bytes ?? Number.NaN) / 2 ** 20);
      // Every head keeps a key and a value of 16-bit numbers: as wide as the model, twice, in each layer.
      expect(model?.memory).toEqual({ weightsMib, cacheBytesPerToken: layers * width * 2 * 2 });
    }
  });

  it('sees the prompts that it was trained on, token for token', async () => {
    const tricky = ['</s><|assistant|>yes', 'Ünïcödé 🙂\n\ttabs', '  two  spaces ', '<unk>'];
    const chats = [
      ...heldOutItems({ seed: 2, count: 12 }).map((item) =>
        item.messages.map(({ role, content }) => ({
          role: role === 'developer' ? ('system' as const) : role,
          content,
        })),
      ),
      ...tricky.map((content) => [{ role: 'user' as const, content }]),
      [
        { role: 'system' as const, content: 'Be brief.' },
        { role: 'user' as const, content: 'a' },
        { role: 'assistant' as const, content: 'b' },
        { role: 'user' as const, content: 'c' },
      ],
    ];
    for (const messages of chats) {
      const { unitsIn } = await ask('Q8_0', work(messages, { maxTokens: 1 }));
      expect({ messages, unitsIn }).toEqual({ messages, unitsIn: chatTokens(messages).length });
    }
  });

  it('audits its own rows with no margin at all, greedy and sampled', async () => {
    for (const { messages } of heldOutItems({ seed: 3, count: 6 })) {
      const asked = messages.map(({ content }) => ({ role: 'user' as const, content }));
      for (const quantisation of ['Q8_0', 'F32']) {
        for (const row of [work(asked), work(asked, SAMPLED)])
          expect(await margin(quantisation, row, await ask(quantisation, row))).toBeLessThan(0.01);
      }
    }
  });

  it('tells a sampled row of another seed from an honest one', async () => {
    let different = 0;
    for (const { messages } of heldOutItems({ seed: 4, count: 6 })) {
      const asked = messages.map(({ content }) => ({ role: 'user' as const, content }));
      const row = work(asked, { temperature: 2, seed: 1 });
      const [honest, other] = [await ask('Q8_0', row), await ask('Q8_0', { ...row, seed: 2 })];
      if (other.tokens.join() === honest.tokens.join()) continue;
      different += 1;
      expect(await margin('Q8_0', row, other)).toBeGreaterThan(0.05);
    }
    expect(different).toBeGreaterThan(0);
  });
});
