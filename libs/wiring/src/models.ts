import { join } from 'node:path';
import type { Blobs, Engine, TrainableBase, Trainer } from '@freehold/market';
import {
  childEngine,
  FREEHOLD_TINY_TEMPLATE,
  LLAMA_CPP_MEMORY_MIB,
  llamaCppModel,
  referenceTrainer,
  trainerEngine,
  USE_LITE_DIGEST,
  USE_LITE_MODEL,
  useLiteModel,
  type BaseFile,
  type LocalModel,
} from '@freehold/runtime';
import { CONTEXT_TOKENS, ensureGguf, manifest, MODEL_ID, modelDigest } from '../../../models/freehold-tiny/index.mjs';

/** Objects of fine-tunes as an engine of this machine reads them: by path, or in a folder under their sha256. */
export interface LocalObjects extends Blobs {
  readonly folder: string;
}

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
   * @param adaptersDir Where adapters lie under their sha256; without it none is served.
   */
  readonly locate: (dir: string, slots?: number, adaptersDir?: string) => Promise<LocalModel>;
  /** An engine of its own for it, in a child process. */
  readonly start: (dir: string, slots?: number, adaptersDir?: string) => Promise<Engine>;
}

/** The file is half of F16 and answers as well: see the model's card. */
const TINY_QUANTISATION = 'Q8_0';
/** The cache of one more sequence of the whole context, and then some. */
const TINY_SLOT_MIB = 32;

async function locateTiny(dir: string, slots = 1, adaptersDir?: string): Promise<LocalModel> {
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
    ...(adaptersDir === undefined ? {} : { adaptersDir }),
    memoryMib: LLAMA_CPP_MEMORY_MIB + (slots - 1) * TINY_SLOT_MIB,
  });
}

function shipped(model: Omit<ShippedModel, 'start'>): ShippedModel {
  return {
    ...model,
    start: async (dir, slots, adaptersDir) => childEngine((await model.locate(dir, slots, adaptersDir)).spec),
  };
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

/** Measured at some 400 MiB with examples up to the whole context; a limit leaves room. */
export const TRAINER_MEMORY_MIB = 768;
/** Three F32 numbers per trained weight (itself and two moments), a tenth for names, and never less than a small file. */
const CHECKPOINT_BYTES_PER_WEIGHT = 13.2;
const CHECKPOINT_BYTES_LEAST = 1_048_576;

/** freehold-tiny is trained on the file that it is served from: an adapter fits what it will be worn by. */
export const LOCAL_BASES: readonly TrainableBase[] = [
  {
    model: MODEL_ID,
    sha256: manifest.gguf[TINY_QUANTISATION].sha256,
    contextTokens: CONTEXT_TOKENS,
    checkpointBytesMax: ({ r, targets }) => {
      const { width, ffn, layers } = manifest.config;
      const sides = targets.reduce((sum, target) => sum + (target.startsWith('ffn') ? width + ffn : 2 * width), 0);
      return Math.ceil(layers * r * sides * CHECKPOINT_BYTES_PER_WEIGHT) + CHECKPOINT_BYTES_LEAST;
    },
  },
];

/** @param dir Where files that are made at first start are kept. */
export async function localBaseFile(model: string, dir: string): Promise<BaseFile> {
  const base = LOCAL_BASES.find((known) => known.model === model);
  if (base === undefined) throw new Error(`${model} is no base of this repository`);
  const { path, sha256 } = await ensureGguf({ quantisation: TINY_QUANTISATION, dir });
  return { model, sha256, path, contextTokens: base.contextTokens, quantisation: TINY_QUANTISATION };
}

/** The reference trainer in a process of its own, for one plan. */
export function startLocalTrainer(): Trainer {
  return referenceTrainer({ memoryMib: TRAINER_MEMORY_MIB });
}

/** Trains this repository's bases, and runs segments of others again. */
export async function startTrainerEngine(
  dir: string,
  objects: LocalObjects,
  start: () => Trainer = startLocalTrainer,
): Promise<Engine> {
  return trainerEngine({
    bases: await Promise.all(LOCAL_BASES.map(({ model }) => localBaseFile(model, dir))),
    start,
    blobs: objects,
    folder: join(objects.folder, '..', 'trainer'),
  });
}
