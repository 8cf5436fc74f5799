import { describe, expect, it } from '@jest/globals';
import { PROMPT_BLOCK_BYTES, promptBlocks, SHARED_BLOCKS_MAX, SharedBeginning } from './prompt-blocks.ts';

const salt = new Uint8Array(32).fill(7);
const words = (bytes: number, seed = 'word '): string => seed.repeat(Math.ceil(bytes / seed.length)).slice(0, bytes);
const blocks = (parts: readonly string[], scope = ['org', 'm'], by = salt): readonly string[] =>
  promptBlocks(by, scope, parts);

describe('blocks of a prompt', () => {
  it('are shared exactly as far as two prompts begin alike', () => {
    const long = words(3 * PROMPT_BLOCK_BYTES);
    const [first, longer] = [blocks([long]), blocks([long, 'and then', words(2 * PROMPT_BLOCK_BYTES)])];
    expect(first).toHaveLength(3);
    expect(longer.slice(0, 3)).toEqual(first);
    expect(blocks([`${long}${words(5_000)}`, 'x']).slice(0, 3)).toEqual(first);
    const other = blocks([`another${long.slice(7)}`]);
    expect(other.filter((name) => first.includes(name))).toEqual([]);
    const late = blocks([`${long.slice(0, -9)}different`]);
    expect(late.slice(0, 2)).toEqual(first.slice(0, 2));
    expect(late[2]).not.toBe(first[2]);
  });

  it('have other names for another organisation, another model and another process', () => {
    const long = words(2 * PROMPT_BLOCK_BYTES);
    const all = [
      ...blocks([long]),
      ...blocks([long], ['other', 'm']),
      ...blocks([long], ['org', 'n']),
      ...blocks([long], ['org', 'm'], new Uint8Array(32)),
    ];
    expect(new Set(all).size).toBe(8);
  });

  it('do not take what is in one message for what is in two', () => {
    const long = words(2 * PROMPT_BLOCK_BYTES);
    const [one, two] = [blocks([long]), blocks([long.slice(0, 100), long.slice(100)])];
    expect(one[0]).not.toBe(two[0]);
  });

  it('are none for a short prompt, and bounded for a long one', () => {
    expect(blocks([words(PROMPT_BLOCK_BYTES - 10)])).toEqual([]);
    expect(blocks([words(1_048_576)])).toHaveLength(128);
  });
});

describe('the beginning that a batch shares', () => {
  const scope = ['org', 'm'];
  const shared = (...prompts: readonly (readonly string[])[]): readonly string[] => {
    const beginning = new SharedBeginning();
    for (const parts of prompts) beginning.add(parts);
    return beginning.blocks(salt, scope);
  };
  const said = (text: string): readonly string[] => ['system', words(3 * PROMPT_BLOCK_BYTES), 'user', text];

  it('has the names that every one of its prompts has, and no more', () => {
    const [a, b] = [said('one question'), said(words(PROMPT_BLOCK_BYTES, 'another '))];
    const common = shared(a, b, a);
    expect(common).toHaveLength(3);
    expect(blocks(a, scope).slice(0, 3)).toEqual(common);
    expect(blocks(b, scope).slice(0, 3)).toEqual(common);
    expect(shared(b, b)).toEqual(blocks(b, scope));
  });

  it('is nothing where prompts begin differently, however many begin alike, and where there are none', () => {
    expect(shared(said('a'), said('b'), ['user', 'short'], said('c'))).toEqual([]);
    expect(shared()).toEqual([]);
  });

  it('is bounded, and counts bytes as its prompts do', () => {
    expect(shared(said(words(1_048_576)))).toHaveLength(SHARED_BLOCKS_MAX);
    const japanese = ['system', '日本語'.repeat(PROMPT_BLOCK_BYTES)];
    expect(shared(japanese, japanese)).toEqual(blocks(japanese, scope).slice(0, SHARED_BLOCKS_MAX));
  });
});
