import { expect, it } from '@jest/globals';
import { cacheBytesOf } from './attention-cache.ts';

const of = (head: Readonly<Record<string, unknown>>): number | undefined => cacheBytesOf((name) => head[name]);
const LLAMA_8B = {
  block_count: 32,
  embedding_length: 4_096,
  'attention.head_count': 32,
  'attention.head_count_kv': 8,
};

it('reads what a token keeps from the head of a file: grouped heads, layers of several kinds, lengths of their own', () => {
  expect(of(LLAMA_8B)).toBe(32 * 8 * 256 * 2);
  expect(of({ ...LLAMA_8B, 'attention.head_count_kv': undefined })).toBe(32 * 32 * 256 * 2);
  expect(of({ ...LLAMA_8B, 'attention.key_length': 256, 'attention.value_length': 64 })).toBe(32 * 8 * 320 * 2);
  expect(of({ ...LLAMA_8B, block_count: 3, 'attention.head_count_kv': [8, 0, 4] })).toBe(12 * 256 * 2);
});

it('says nothing where a head does not, or holds what is no number', () => {
  expect(of({})).toBeUndefined();
  expect(of({ ...LLAMA_8B, block_count: undefined })).toBeUndefined();
  expect(of({ ...LLAMA_8B, block_count: Number.NaN })).toBeUndefined();
  expect(of({ ...LLAMA_8B, block_count: -32 })).toBeUndefined();
  expect(of({ ...LLAMA_8B, block_count: '32' })).toBeUndefined();
  expect(of({ ...LLAMA_8B, block_count: 1e300 })).toBeUndefined();
  expect(of({ ...LLAMA_8B, 'attention.head_count_kv': [0, 0], block_count: 2 })).toBeUndefined();
});
