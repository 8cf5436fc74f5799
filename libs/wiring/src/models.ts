import type { Engine } from '@freehold/market';
import { childEngine } from '@freehold/runtime';
import { CONTEXT_TOKENS, ensureGguf, MODEL_ID, modelDigest } from '../../../models/freehold-tiny/index.mjs';

/** A model that any machine can run from this repository's own packages, without a download. */
export interface LocalModel {
  readonly name: string;
  readonly kind: 'chat' | 'embedding';
  readonly engine: 'llama-cpp' | 'use-lite';
  /** Resident memory its child process may take. */
  readonly memoryMib: number;
  /** @param dir Where files that are made at first start are kept. */
  readonly start: (dir: string, slots?: number) => Promise<Engine>;
}

const TINY_MEMORY_MIB = 512;
const USE_LITE_MEMORY_MIB = 768;

export const LOCAL_MODELS: readonly LocalModel[] = [
  {
    name: MODEL_ID,
    kind: 'chat',
    engine: 'llama-cpp',
    memoryMib: TINY_MEMORY_MIB,
    async start(dir, slots = 1) {
      const file = await ensureGguf({ quantisation: 'Q8_0', dir });
      return childEngine({
        engine: 'llama-cpp',
        memoryMib: TINY_MEMORY_MIB,
        options: {
          models: [
            {
              name: MODEL_ID,
              path: file.path,
              fileSha256: file.sha256,
              digest: `sha256:${modelDigest}`,
              quantisation: 'Q8_0',
              contextTokens: CONTEXT_TOKENS,
              slots,
              template: {
                kind: 'turns',
                begin: '<s>',
                before: { system: '<|system|>', user: '<|user|>', assistant: '<|assistant|>' },
                after: { system: '', user: '', assistant: '</s>' },
              },
            },
          ],
        },
      });
    },
  },
  {
    name: 'use-lite',
    kind: 'embedding',
    engine: 'use-lite',
    memoryMib: USE_LITE_MEMORY_MIB,
    start: () => Promise.resolve(childEngine({ engine: 'use-lite', memoryMib: USE_LITE_MEMORY_MIB, options: {} })),
  },
];
