import { Engine, EngineError, type EngineDescription } from '@freehold/market';
import type {
  ChatOutput,
  EmbeddingOutput,
  EmbeddingWork,
  FailedOutput,
  RowScore,
  Work,
  WorkOutput,
} from '@freehold/protocol';
import { scoreEmbedding } from '../score-embedding.ts';
import { encodeVector } from '../vectors.ts';
import { DIMENSIONS, Encoder } from './encoder.ts';
import { USE_LITE_DIGEST, USE_LITE_MODEL, USE_LITE_TOKENS_MAX, USE_LITE_VERSION } from './model.ts';
import type { UseLiteOptions } from './options.ts';
import { loadTensorLibrary } from './tensors.ts';
import { UnigramTokenizer } from './tokenizer.ts';
import { readModel } from './weights.ts';
import { pooled, windowsOf } from './windows.ts';

/** Universal Sentence Encoder lite inside this process. Only a child process should call it: see `childEngine`. */
export async function useLiteEngine(_options: UseLiteOptions): Promise<Engine> {
  const library = await loadTensorLibrary();
  const { vocabulary, weights } = readModel();
  const encoder = new Encoder(library, weights);
  const simd = library.env().features['WASM_HAS_SIMD_SUPPORT'] === true ? 'wasm-simd' : 'wasm';
  const weightsBytes = [...weights.values()].reduce((sum, { values }) => sum + values.byteLength, 0);
  return new UseLiteEngine(new UnigramTokenizer(vocabulary), encoder, simd, Math.ceil(weightsBytes / 2 ** 20));
}

class UseLiteEngine extends Engine {
  readonly #tokenizer: UnigramTokenizer;
  readonly #encoder: Encoder;
  readonly #backend: string;
  readonly #weightsMib: number;
  /** One thread, one row at a time: calls take turns between windows. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(tokenizer: UnigramTokenizer, encoder: Encoder, backend: string, weightsMib: number) {
    super();
    this.#tokenizer = tokenizer;
    this.#encoder = encoder;
    this.#backend = backend;
    this.#weightsMib = weightsMib;
  }

  async describe(): Promise<EngineDescription> {
    return {
      engine: 'use-lite',
      version: USE_LITE_VERSION,
      // WebAssembly rounds alike on every machine, so the hardware is no part of the class.
      engineClass: `use-lite/${USE_LITE_VERSION}/${this.#backend}`,
      models: [
        {
          name: USE_LITE_MODEL,
          digest: USE_LITE_DIGEST,
          kind: 'embedding',
          quantisation: 'F32',
          contextTokens: USE_LITE_TOKENS_MAX,
          slots: 1,
          caps: { tokens: true, logprobs: false, promptLogprobs: false, seed: false, lora: false, embeddings: true },
          memory: { weightsMib: this.#weightsMib, cacheBytesPerToken: 0 },
        },
      ],
    };
  }

  async chat(): Promise<ChatOutput | FailedOutput> {
    return {
      kind: 'failed',
      code: 'unsupported_kind',
      message: 'This engine serves embeddings only; ask a chat model.',
    };
  }

  async embed(model: string, work: EmbeddingWork, signal: AbortSignal): Promise<EmbeddingOutput | FailedOutput> {
    if (model !== USE_LITE_MODEL)
      throw new EngineError('model_not_loaded', `${model} is not loaded; there is ${USE_LITE_MODEL}.`, false);
    const inputs: number[][] = [];
    for (const input of work.inputs) {
      const tokens = this.#tokensOf(input);
      if (!Array.isArray(tokens)) return tokens;
      inputs.push(tokens);
    }
    const vectors: string[] = [];
    for (const tokens of inputs) vectors.push(encodeVector(await this.#vectorOf(tokens, signal)));
    const unitsIn = inputs.reduce((sum, tokens) => sum + tokens.length, 0);
    return { kind: 'embedding', vectors, dimensions: DIMENSIONS, unitsIn };
  }

  async score(model: string, rowNo: number, work: Work, committed: WorkOutput, signal: AbortSignal): Promise<RowScore> {
    const own = work.kind === 'embedding' ? await this.embed(model, work, signal) : await this.chat();
    return own.kind === 'chat'
      ? { kind: 'failed', rowNo, code: 'unsupported_kind', agrees: false }
      : scoreEmbedding(rowNo, own, committed);
  }

  async close(): Promise<void> {
    await this.#turn;
  }

  #tokensOf(input: string | readonly number[]): number[] | FailedOutput {
    if (typeof input !== 'string') {
      return refused(
        'unsupported_input',
        'Token ids of another tokeniser mean nothing to use-lite: send the text itself.',
      );
    }
    const tokens = this.#tokenizer.encode(input);
    if (tokens.length === 0) return refused('unsupported_input', 'An input is empty: send at least one character.');
    if (tokens.length <= USE_LITE_TOKENS_MAX) return tokens;
    return refused(
      'context_length_exceeded',
      `An input has ${tokens.length} tokens; at most ${USE_LITE_TOKENS_MAX} are embedded.`,
    );
  }

  async #vectorOf(tokens: readonly number[], signal: AbortSignal): Promise<Float32Array> {
    const windows = windowsOf(tokens);
    const vectors: Float32Array[] = [];
    for (const window of windows) {
      if (signal.aborted) throw new EngineError('aborted', 'The call was cancelled.', true);
      vectors.push(await this.#inTurn(() => this.#encoder.encode(window)));
    }
    return pooled(
      vectors,
      windows.map((window) => window.length),
    );
  }

  /** Lets the event loop turn before each window, so that cancels and other calls are seen. */
  #inTurn<T>(work: () => T): Promise<T> {
    const next = this.#turn.then(async () => {
      await new Promise((resolve) => setImmediate(resolve));
      return work();
    });
    this.#turn = next.catch(() => {
      // The caller sees it; the next in turn must not.
    });
    return next;
  }
}

function refused(code: string, message: string): FailedOutput {
  return { kind: 'failed', code, message };
}
