import type { Candidate, CandidateGpu, ServedModel } from './ask.ts';

/** What the memory that a model takes is reckoned from. */
export interface ModelMemory {
  readonly weightsMib: number;
  /** Keys and values of all layers for one token; 0 for a model that keeps none. */
  readonly cacheBytesPerToken: number;
  /** Tokens that its engine keeps a cache for at once, over all sequences; absent: the whole context of every slot. */
  readonly cacheTokens?: number | undefined;
}

const BYTES_PER_MIB = 2 ** 20;
const WHOLE_GPU_MILLI = 1_000;
/** Beside weights and cache an engine keeps what it computes with: vLLM leaves a tenth of a GPU free by default, as other engines do. */
const SPARE_SHARE = 0.1;

/**
 * Memory that an engine takes for a model, in MiB, rounded up: its weights, the attention cache of every sequence, and a tenth of
 * both for what is computed. An estimate of what loading it needs, for who has to decide before it is loaded.
 */
export function modelMemoryMib(
  model: ModelMemory & {
    /** Tokens of one sequence at most. */
    readonly contextTokens: number;
    /** Concurrent sequences. */
    readonly slots: number;
  },
): number {
  const cacheTokens = model.cacheTokens ?? model.contextTokens * model.slots;
  const cacheMib = (model.cacheBytesPerToken * cacheTokens) / BYTES_PER_MIB;
  return Math.ceil((model.weightsMib + cacheMib) * (1 + SPARE_SHARE));
}

/**
 * Bytes that one token takes in the attention cache: a key and a value for each head that has them, in every layer.
 *
 * @param bytesPerNumber 2: engines keep them as 16-bit floats unless they are told otherwise.
 */
export function cacheBytesPerToken(
  shape: {
    readonly layers: number;
    /** Of keys and values: with grouped queries fewer than of queries. */
    readonly heads: number;
    /** Numbers of one head's key, and of its value. */
    readonly keyLength: number;
    readonly valueLength: number;
  },
  bytesPerNumber = 2,
): number {
  return shape.layers * shape.heads * (shape.keyLength + shape.valueLength) * bytesPerNumber;
}

/**
 * Whether a node has the memory to load a model. What is loaded, or has done rows that the market counted there, has shown that it
 * runs, whatever the estimate says: engines may keep layers on the processor. Of what nobody knows the need or the room, nothing is asked.
 */
export function fitsMemory(
  model: Pick<ServedModel, 'loaded' | 'isClaimed' | 'memoryMib'>,
  node: Pick<Candidate, 'modelRoomMib'>,
): boolean {
  if (model.loaded || model.isClaimed !== true) return true;
  return model.memoryMib === undefined || node.modelRoomMib === undefined || model.memoryMib <= node.modelRoomMib;
}

/** A machine as its owner offers it. */
interface Machine {
  readonly gpus: readonly Pick<CandidateGpu, 'vramMib' | 'milli'>[];
  readonly memoryMib: number;
}

/** Memory that a node has for models: of all its GPUs what its owner lends, or, where it has none, its own. */
export function modelRoomMib({ gpus, memoryMib }: Machine): number {
  if (gpus.length === 0) return memoryMib;
  return Math.floor(gpus.reduce((sum, gpu) => sum + (gpu.vramMib * gpu.milli) / WHOLE_GPU_MILLI, 0));
}

/** Memory that is free for models beside what a node has loaded; below 0 where engines hold more than was reckoned. Undefined: nobody knows. */
export function freeMemoryMib({
  modelRoomMib,
  models,
}: Pick<Candidate, 'modelRoomMib' | 'models'>): number | undefined {
  let freeMib = modelRoomMib;
  for (const { loaded, memoryMib } of models) {
    if (!loaded) continue;
    if (freeMib === undefined || memoryMib === undefined) return undefined;
    freeMib -= memoryMib;
  }
  return freeMib;
}

/** What a node must have to load a model, in words; with the figures of the node that falls least short, where any does. */
export function saysMemory(
  name: string,
  short: readonly { readonly model: ServedModel; readonly roomMib: number | undefined }[],
): string {
  const [least] = short
    .flatMap(({ model: { memoryMib }, roomMib }) =>
      memoryMib === undefined || roomMib === undefined ? [] : [{ memoryMib, roomMib }],
    )
    .sort((a, b) => a.memoryMib - a.roomMib - (b.memoryMib - b.roomMib));
  const loads = `has the memory to load ${name}`;
  return least === undefined
    ? loads
    : `${loads}: ${least.memoryMib} MiB, where ${least.roomMib} MiB is the nearest to it`;
}
