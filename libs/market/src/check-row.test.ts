import { describe, expect, it } from '@jest/globals';
import type { Work, WorkOutput } from '@freehold/protocol';
import { rowFault } from './check-row.ts';

const chat: Work = {
  kind: 'chat',
  messages: [{ role: 'user', content: 'x'.repeat(900) }],
  maxTokens: 512,
  temperature: 0,
  topP: 1,
  seed: 1,
  stop: [],
  topLogprobs: 0,
  logprobs: false,
};
const answer = (tokens: number, finish: 'stop' | 'length'): WorkOutput => ({
  kind: 'chat',
  tokens: Array.from({ length: tokens }, () => 7),
  text: 'y',
  finish,
  unitsIn: 900,
  unitsOut: tokens,
});

describe('a row as it comes in', () => {
  it('may end for length before its limit, where the context is full', () => {
    expect(rowFault(chat, answer(124, 'length'))).toBeNull();
    expect(rowFault(chat, answer(512, 'length'))).toBeNull();
  });

  it('may not be longer than was asked for, nor count more than it shows', () => {
    expect(rowFault(chat, answer(513, 'stop'))).toContain('513');
    expect(rowFault(chat, { ...answer(5, 'stop'), unitsOut: 6 } as WorkOutput)).toContain('6 output tokens');
    expect(rowFault(chat, { ...answer(5, 'stop'), unitsIn: 1_000_000 } as WorkOutput)).toContain('input tokens');
  });
});
