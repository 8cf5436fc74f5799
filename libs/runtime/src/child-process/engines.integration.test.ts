import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, jest } from '@jest/globals';
import { engineSuite } from '@freehold/testing';
import { randomGguf } from '../llama-cpp/random-gguf.ts';
import type { ChatTemplate } from '../llama-cpp/options.ts';
import { childEngine } from './child-engine.ts';

/** Loading takes one second alone and several beside other suites. */
jest.setTimeout(60_000);
const folder = mkdtempSync(join(tmpdir(), 'freehold-engines-'));
const path = join(folder, 'random.gguf');
writeFileSync(path, randomGguf(1));
afterAll(() => rmSync(folder, { recursive: true }));

const turns: ChatTemplate = {
  kind: 'turns',
  begin: '<s>',
  before: { system: '<|user|>', user: '<|user|>', assistant: '<|assistant|>' },
  after: { system: '', user: '', assistant: '</s>' },
};
const model = { name: 'random', path, template: turns, quantisation: 'F32', slots: 2 };

engineSuite(
  'llama-cpp in a child process',
  () => Promise.resolve(childEngine({ engine: 'llama-cpp', options: { models: [model] }, memoryMib: 1_024 })),
  { chat: 'random', question: 'Hello' },
);

engineSuite(
  'use-lite in a child process',
  () => Promise.resolve(childEngine({ engine: 'use-lite', options: {}, memoryMib: 1_024 })),
  {
    embedding: 'use-lite',
  },
);
