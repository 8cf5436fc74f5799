import { beforeEach, describe, expect, it } from '@jest/globals';
import { PROMPT_BLOCK_BYTES, PROMPT_BLOCK_TOKENS } from '@freehold/domain';
import type { ChatWork } from '@freehold/protocol';
import { PromptPrefixes } from './prompt-prefixes.ts';

const long = 'a word or two '.repeat(PROMPT_BLOCK_BYTES);
const chat = (...contents: readonly string[]): ChatWork => ({
  kind: 'chat',
  messages: contents.map((content, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content })),
  maxTokens: 1,
  temperature: 0,
  topP: 1,
  seed: 0,
  stop: [],
  topLogprobs: 0,
  logprobs: false,
});

describe('beginnings of prompts', () => {
  let nowMs = 0;
  let prefixes: PromptPrefixes;
  beforeEach(() => {
    nowMs = 0;
    prefixes = new PromptPrefixes({ nowMs: () => nowMs }, { bytes: (length) => new Uint8Array(length).fill(1) });
  });
  const first = long.slice(0, 2 * PROMPT_BLOCK_BYTES);
  const answer = long.slice(0, PROMPT_BLOCK_BYTES);
  const tokens = (orgId: string, work: ChatWork, model = 'm'): [string, number][] => [
    ...prefixes.tokensOn(orgId, model, work),
  ];

  it("are found for a conversation's next turn, the answer included", () => {
    prefixes.answered('org', 'm', chat(first), answer, 'node');
    expect(tokens('org', chat(first, answer, 'and then?'))).toEqual([['node', 3 * PROMPT_BLOCK_TOKENS]]);
    expect(tokens('org', chat(first, 'it was another answer, and a longer one'))).toEqual([
      ['node', 2 * PROMPT_BLOCK_TOKENS],
    ]);
  });

  it('are nobody else’s: not another organisation’s, not another model’s, not another adapter’s', () => {
    prefixes.answered('org', 'm', chat(first), answer, 'node');
    expect(tokens('other', chat(first))).toEqual([]);
    prefixes.answered('other', 'm', chat(long.slice(3, 3 + 2 * PROMPT_BLOCK_BYTES)), '', 'theirs');
    expect(tokens('other', chat(first))).toEqual([]);
    expect(tokens('org', chat(first), 'n')).toEqual([]);
    expect(tokens('org', { ...chat(first), adapter: 'ab'.repeat(32) })).toEqual([]);
  });

  it('count from the first block on, for each node as far as it goes', () => {
    prefixes.note('org', ['a', 'b', 'c'], 'one');
    prefixes.note('org', ['a', 'x'], 'two');
    expect([...prefixes.holding('org', ['a', 'b', 'c', 'd'])].sort(([, a], [, b]) => b - a)).toEqual([
      ['one', 3],
      ['two', 1],
    ]);
    expect([...prefixes.holding('org', ['x', 'y'])]).toEqual([['two', 1]]);
    expect([...prefixes.holding('org', ['y', 'x'])]).toEqual([]);
  });

  it('are found although many other nodes computed what all of them begin with', () => {
    prefixes.note('org', ['instructions', 'first'], 'one');
    for (let i = 0; i < 20; i += 1) prefixes.note('org', ['instructions', `other ${i}`], `node${i}`);
    expect(prefixes.holding('org', ['instructions', 'first', 'next']).get('one')).toBe(2);
    expect(prefixes.holding('org', ['instructions', 'first', 'next']).size).toBeLessThanOrEqual(8);
  });

  it('are forgotten after minutes, and are gone from memory with the next that come', () => {
    prefixes.note('org', ['a'], 'node');
    nowMs = 599_999;
    expect([...prefixes.holding('org', ['a'])]).toEqual([['node', 1]]);
    nowMs = 600_000;
    expect([...prefixes.holding('org', ['a'])]).toEqual([]);
    prefixes.note('other', ['b'], 'node');
    expect(prefixes.size).toBe(1);
  });

  it('of one organisation take half of the room, and the end of a prompt goes before its beginning', () => {
    for (let i = 0; i < 80_000; i += 100)
      prefixes.note(
        'org',
        Array.from({ length: 100 }, (_, at) => `${i}-${at}`),
        'node',
      );
    expect(prefixes.size).toBe(65_536);
    const oldest = 80_000 - 65_600;
    expect([
      ...prefixes.holding(
        'org',
        Array.from({ length: 100 }, (_, at) => `${oldest}-${at}`),
      ),
    ]).toEqual([['node', 36]]);
  });

  it('of all organisations take no more than their room', () => {
    for (let org = 0; org < 3; org += 1)
      prefixes.note(
        `org${org}`,
        Array.from({ length: 60_000 }, (_, at) => `${at}`),
        'node',
      );
    expect(prefixes.size).toBe(131_072);
    expect([...prefixes.holding('org2', ['0'])]).toEqual([['node', 1]]);
  });
});
