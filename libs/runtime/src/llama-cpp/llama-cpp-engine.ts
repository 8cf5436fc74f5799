import type { Llama } from 'node-llama-cpp';
import { Engine, EngineError, type ChatDelta, type EngineDescription } from '@freehold/market';
import type {
  ChatOutput,
  ChatWork,
  EmbeddingOutput,
  EmbeddingWork,
  FailedOutput,
  RowScore,
  Work,
  WorkOutput,
} from '@freehold/protocol';
import { AdapterUnfit } from './adapters.ts';
import { generate } from './generate.ts';
import { checkedSha256, LoadedModel } from './loaded-model.ts';
import { LlamaCppOptions } from './options.ts';
import { scoreChat } from './score-chat.ts';

/** Instruction sets that change rounding, the widest first: two machines of one class run the same code. */
const CPU_FAMILIES = ['AMX_INT8', 'AVX512_BF16', 'AVX512', 'AVX_VNNI', 'AVX2', 'AVX', 'SVE', 'NEON'] as const;

/**
 * llama.cpp inside this process. Only a child process should call it: see `childEngine`.
 *
 * Files are checked before anything native is loaded, so a wrong one is refused at once and unread.
 */
export async function llamaCppEngine(input: LlamaCppOptions): Promise<Engine> {
  const options = LlamaCppOptions.parse(input);
  const names = new Set(options.models.map((model) => model.name));
  if (names.size < options.models.length)
    throw new EngineError('model_named_twice', 'Two models have one name.', false);
  const checked = new Map<string, string>();
  for (const model of options.models) checked.set(model.name, await checkedSha256(model));
  const { getLlama, getModuleVersion, LlamaLogLevel } = await import('node-llama-cpp');
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    logLevel: LlamaLogLevel.error,
    logger: (_level, message) => void process.stderr.write(message),
  });
  const models = new Map<string, LoadedModel>();
  for (const model of options.models) {
    const fileSha256 = checked.get(model.name) ?? '';
    models.set(model.name, await LoadedModel.load(llama, model, fileSha256, options));
  }
  return new LlamaCppEngine(llama, await getModuleVersion(), models);
}

class LlamaCppEngine extends Engine {
  readonly #llama: Llama;
  readonly #models: ReadonlyMap<string, LoadedModel>;
  readonly #version: string;

  constructor(llama: Llama, version: string, models: ReadonlyMap<string, LoadedModel>) {
    super();
    this.#llama = llama;
    this.#version = version;
    this.#models = models;
  }

  async describe(): Promise<EngineDescription> {
    const family = CPU_FAMILIES.find((name) => this.#llama.systemInfo.includes(`${name} = 1`)) ?? 'generic';
    return {
      engine: 'llama-cpp',
      version: this.#version,
      engineClass: `llama-cpp/${this.#version}/${process.arch}-${family.toLowerCase().replaceAll('_', '-')}`,
      models: [...this.#models.values()].map((model) => model.described),
    };
  }

  async chat(
    name: string,
    work: ChatWork,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal,
  ): Promise<ChatOutput | FailedOutput> {
    const model = this.#model(name);
    const prompt = model.promptTokens(work.messages);
    const refusal = refusalOf(model, prompt.length);
    if (refusal !== undefined) return refusal;
    return orUnfit(
      model.onSequence(work.adapter, signal, async (sequence) => {
        try {
          return await generate(model, sequence, prompt, work, onDelta, signal);
        } finally {
          await sequence.clearHistory();
        }
      }),
    );
  }

  async embed(_name: string, _work: EmbeddingWork, _signal: AbortSignal): Promise<FailedOutput | EmbeddingOutput> {
    return {
      kind: 'failed',
      code: 'unsupported_kind',
      message: 'This engine serves chat only; ask an embedding model.',
    };
  }

  async score(name: string, rowNo: number, work: Work, committed: WorkOutput, signal: AbortSignal): Promise<RowScore> {
    const model = this.#model(name);
    if (work.kind !== 'chat') return failedScore(rowNo, 'unsupported_kind', committed);
    const prompt = model.promptTokens(work.messages);
    const refusal = refusalOf(model, prompt.length);
    if (refusal !== undefined) return failedScore(rowNo, refusal.code, committed);
    if (committed.kind !== 'chat' && !(committed.kind === 'failed' && work.adapter !== undefined))
      return { kind: 'failed', rowNo, code: 'not_refused_here', agrees: false };
    const score = await orUnfit(
      model.onSequence(work.adapter, signal, async (sequence) => {
        try {
          // Refused by the provider, and the adapter fits here.
          if (committed.kind !== 'chat')
            return { kind: 'failed' as const, rowNo, code: 'not_refused_here', agrees: false };
          return await scoreChat(model, sequence, rowNo, prompt, work, committed);
        } finally {
          await sequence.clearHistory();
        }
      }),
    );
    return 'rowNo' in score ? score : failedScore(rowNo, score.code, committed);
  }

  async close(): Promise<void> {
    await this.#llama.dispose();
  }

  #model(name: string): LoadedModel {
    const model = this.#models.get(name);
    if (model !== undefined) return model;
    throw new EngineError(
      'model_not_loaded',
      `${name} is not loaded; there is ${[...this.#models.keys()].join(', ')}.`,
      false,
    );
  }
}

function refusalOf(model: LoadedModel, promptTokens: number): FailedOutput | undefined {
  const { contextTokens } = model.described;
  if (promptTokens < contextTokens) return undefined;
  const message = `The prompt has ${promptTokens} tokens; the context holds ${contextTokens}, and the answer needs some of them.`;
  return { kind: 'failed', code: 'context_length_exceeded', message };
}

/** An adapter that does not fit fails its row, here and everywhere: nobody else is asked, and nothing is charged. */
async function orUnfit<T>(run: Promise<T>): Promise<T | FailedOutput> {
  try {
    return await run;
  } catch (error) {
    if (!(error instanceof AdapterUnfit)) throw error;
    return { kind: 'failed', code: 'adapter_unfit', message: error.message.slice(0, 1_024) };
  }
}

/** This engine refuses the row: it agrees with whoever refused it for the same reason. */
function failedScore(rowNo: number, code: string, committed: WorkOutput): RowScore {
  return { kind: 'failed', rowNo, code, agrees: committed.kind === 'failed' && committed.code === code };
}
