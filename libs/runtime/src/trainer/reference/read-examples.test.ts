import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import { readExamples } from './read-examples.ts';
import { randomLlama } from './random-llama.ts';
import { SpmTokenizer } from './spm-tokenizer.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-examples-'));
const pieces = ['<unk>', '<s>', 'a', 'b', 'ab', '\u2581ab'];
const tokenizer = SpmTokenizer.of(
  new Map<string, string | readonly (string | number)[]>([
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.tokens', pieces],
    ['tokenizer.ggml.scores', pieces.map((_, id) => -id)],
    ['tokenizer.ggml.token_type', [2, 3, 1, 1, 1, 1]],
  ]),
);
const base = {
  llama: randomLlama({ contextTokens: 16 }),
  tokenizer,
  chatTemplate: '{% for m in messages %}<s>{{ m.content }}{% endfor %}<s>',
};

/** A training file of two chats, the second with so long an answer. */
function fileWith(answer: string): string {
  const path = join(folder, 'data.jsonl');
  const line = (content: string): string =>
    JSON.stringify({
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content },
      ],
    });
  writeFileSync(path, `${line('ab')}\n${line(answer)}\n`);
  return path;
}

describe('a training file', () => {
  afterAll(() => rmSync(folder, { recursive: true }));

  it('gives its examples as tokens, and refuses the line that is longer than the context', async () => {
    expect(tokenizer.pieceCharsMax).toBe(5);
    const { examples } = await readExamples(fileWith('ab'.repeat(12)), base);
    expect(examples.map(({ tokens }) => tokens.length)).toEqual([5, 16]);
    await expect(readExamples(fileWith('ab'.repeat(13)), base)).rejects.toMatchObject({
      code: 'example_too_long',
      line: 2,
      message: expect.stringContaining('has 17 tokens'),
    });
  });

  it('gives each kind of chat its own marks, whatever kind stood before it', async () => {
    const turns = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'ab' },
    ];
    const path = join(folder, 'kinds.jsonl');
    const line = (messages: readonly object[]): string => JSON.stringify({ messages });
    writeFileSync(path, [turns, [...turns, ...turns], turns].map(line).join('\n'));
    const { examples } = await readExamples(path, base);
    expect(examples.map(({ tokens }) => [...tokens])).toEqual([
      [1, 2, 1, 4, 1],
      [1, 2, 1, 4, 1, 2, 1, 4, 1],
      [1, 2, 1, 4, 1],
    ]);
  });

  it('refuses a line of a million letters without cutting it into tokens, which would take for ever', async () => {
    await expect(readExamples(fileWith('ab'.repeat(500_000)), base)).rejects.toMatchObject({
      code: 'example_too_long',
      line: 2,
      message: expect.stringContaining('at least 200001 tokens'),
    });
  });
});
