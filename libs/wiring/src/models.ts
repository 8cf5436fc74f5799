import type { Engine } from '@freehold/market';
import {
  childEngine,
  FREEHOLD_TINY_TEMPLATE,
  LLAMA_CPP_MEMORY_MIB,
  llamaCppModel,
  USE_LITE_DIGEST,
  USE_LITE_MODEL,
  useLiteModel,
  type LocalModel,
} from '@freehold/runtime';
import { CONTEXT_TOKENS, ensureGguf, MODEL_ID, modelDigest } from '../../../models/freehold-tiny/index.mjs';

/** A model that any machine can run from this repository's own packages, without a download. */
export interface ShippedModel {
  readonly name: string;
  readonly digest: string;
  readonly kind: 'chat' | 'embedding';
  readonly engine: 'llama-cpp' | 'use-lite';
  /**
   * The model on this machine's disk, ready to be loaded.
   *
   * @param dir Where files that are made at first start are kept.
   */
  readonly locate: (dir: string, slots?: number) => Promise<LocalModel>;
  /** An engine of its own for it, in a child process. */
  readonly start: (dir: string, slots?: number) => Promise<Engine>;
}

/** The file is half of F16 and answers as well: see the model's card. */
const TINY_QUANTISATION = 'Q8_0';
/** The cache of one more sequence of the whole context, and then some. */
const TINY_SLOT_MIB = 32;

async function locateTiny(dir: string, slots = 1): Promise<LocalModel> {
  const file = await ensureGguf({ quantisation: TINY_QUANTISATION, dir });
  return llamaCppModel({
    name: MODEL_ID,
    digest: `sha256:${modelDigest}`,
    quantisation: TINY_QUANTISATION,
    path: file.path,
    fileSha256: file.sha256,
    contextTokens: CONTEXT_TOKENS,
    template: FREEHOLD_TINY_TEMPLATE,
    slots,
    memoryMib: LLAMA_CPP_MEMORY_MIB + (slots - 1) * TINY_SLOT_MIB,
  });
}

function shipped(model: Omit<ShippedModel, 'start'>): ShippedModel {
  return { ...model, start: async (dir, slots) => childEngine((await model.locate(dir, slots)).spec) };
}

export const LOCAL_MODELS: readonly ShippedModel[] = [
  shipped({
    name: MODEL_ID,
    digest: `sha256:${modelDigest}`,
    kind: 'chat',
    engine: 'llama-cpp',
    locate: locateTiny,
  }),
  shipped({
    name: USE_LITE_MODEL,
    digest: USE_LITE_DIGEST,
    kind: 'embedding',
    engine: 'use-lite',
    locate: () => Promise.resolve(useLiteModel()),
  }),
];
