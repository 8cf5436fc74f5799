import type { Llama, LlamaContext, LlamaContextSequence, LlamaModel } from 'node-llama-cpp';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { z } from 'zod';
import { EngineError, type EngineModel } from '@freehold/market';
import type { ChatMessage } from '@freehold/protocol';
import { cacheBytesOf } from '../attention-cache.ts';
import { CONTEXT_TOKENS_DEFAULT, type LlamaCppModel } from './options.ts';
import { promptParts } from './prompt.ts';
import { Adapters } from './adapters.ts';
import { Slots } from './slots.ts';

type ModelOptions = z.output<typeof LlamaCppModel>;

/** A model in memory with its slots: one context, and in it one sequence, per slot. */
export class LoadedModel {
  readonly described: EngineModel;
  readonly slots: Slots<LlamaContextSequence>;
  readonly adapters: Adapters;
  readonly vocabularySize: number;
  readonly #model: LlamaModel;
  readonly #options: ModelOptions;

  private constructor(
    model: LlamaModel,
    contexts: readonly LlamaContext[],
    adapters: Adapters,
    options: ModelOptions,
    digest: string,
    hasAdapters: boolean,
  ) {
    this.#model = model;
    this.#options = options;
    this.slots = new Slots(contexts.map((context) => context.getSequence()));
    this.adapters = adapters;
    this.vocabularySize = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
    this.described = {
      name: options.name,
      digest,
      kind: 'chat',
      quantisation: options.quantisation,
      contextTokens: contextTokensOf(model, options),
      slots: options.slots,
      caps: { tokens: true, logprobs: true, promptLogprobs: true, seed: true, lora: hasAdapters, embeddings: false },
      ...memoryOf(model),
    };
  }

  static async load(
    llama: Llama,
    options: ModelOptions,
    fileSha256: string,
    { threads, adaptersDir }: { readonly threads: number; readonly adaptersDir?: string | undefined },
  ): Promise<LoadedModel> {
    const model = await llama.loadModel({ modelPath: options.path, gpuLayers: 0 });
    const contextSize = contextTokensOf(model, options);
    const shape = { contextSize, batchSize: Math.min(contextSize, 512), sequences: 1, threads };
    const contexts: LlamaContext[] = [];
    for (let slot = 0; slot < options.slots; slot += 1) contexts.push(await model.createContext(shape));
    const adapters = new Adapters(adaptersDir, (filePath) =>
      model.createContext({ ...shape, lora: { adapters: [{ filePath }] } }),
    );
    const digest = options.digest ?? derivedDigest(fileSha256, options);
    return new LoadedModel(model, contexts, adapters, options, digest, adaptersDir !== undefined);
  }

  /** Runs `use` on a sequence of the base, or of the adapter that the row names. */
  async onSequence<R>(
    adapter: string | undefined,
    signal: AbortSignal,
    use: (sequence: LlamaContextSequence) => Promise<R>,
  ): Promise<R> {
    return adapter === undefined ? this.slots.with(signal, use) : this.adapters.with(adapter, signal, use);
  }

  /** The prompt's token ids. Done once per row; committed output is never tokenised again. */
  promptTokens(messages: readonly ChatMessage[]): number[] {
    const words = {
      jinja: this.#model.fileInfo.metadata.tokenizer.chat_template,
      bos: this.#model.tokens.bosString ?? '',
      eos: this.#model.tokens.eosString ?? '',
    };
    // Next to a mark the tokeniser adds its own leading space, as in the whole prompt; after plain text it must not.
    const trim = this.#options.template.kind === 'gguf' ? 'trimLeadingSpace' : undefined;
    const parts = promptParts(messages, this.#options.template, words);
    return parts.flatMap((part) => this.#model.tokenize(part.text, part.special, part.special ? undefined : trim));
  }

  readonly decode = (tokens: readonly number[]): string =>
    this.#model.detokenize(tokens as Parameters<LlamaModel['detokenize']>[0]);

  endsText(token: number): boolean {
    return this.#model.isEogToken(token as Parameters<LlamaModel['isEogToken']>[0]);
  }
}

/** From the file: its size, and the shape that its head names. */
function memoryOf({ size, fileInfo }: LlamaModel): Pick<EngineModel, 'memory'> {
  const head = new Map<string, unknown>();
  flatten(fileInfo.architectureMetadata, '', head);
  const cacheBytesPerToken = cacheBytesOf((name) => head.get(name));
  if (cacheBytesPerToken === undefined) return {};
  return { memory: { weightsMib: Math.ceil(size / 2 ** 20), cacheBytesPerToken } };
}

/** The entries under their names in the file: `attention.head_count`. */
function flatten(entries: object, prefix: string, into: Map<string, unknown>): void {
  for (const [name, value] of Object.entries(entries) as [string, unknown][]) {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) flatten(value, `${prefix}${name}.`, into);
    else into.set(prefix + name, value);
  }
}

function contextTokensOf(model: LlamaModel, options: ModelOptions): number {
  return Math.min(model.trainContextSize, options.contextTokens ?? CONTEXT_TOKENS_DEFAULT);
}

/** The file's sha256. @throws {EngineError} When it cannot be read, or is not the one that was asked for. */
export async function checkedSha256(options: ModelOptions): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(options.path)) hash.update(chunk as Buffer);
  } catch (error) {
    throw new EngineError('model_not_found', `The model file cannot be read: ${String(error)}`, false);
  }
  const found = hash.digest('hex');
  if (options.fileSha256 === undefined || options.fileSha256 === found) return found;
  const message = `${options.path} has sha256 ${found}, expected ${options.fileSha256}: fetch or build the model again.`;
  throw new EngineError('model_digest_mismatch', message, false);
}

/** Weights and tokeniser are the file, the template is ours: both make the model what it is. */
function derivedDigest(fileSha256: string, options: ModelOptions): string {
  return `sha256:${createHash('sha256')
    .update(`${fileSha256}\n${JSON.stringify(options.template)}`)
    .digest('hex')}`;
}
