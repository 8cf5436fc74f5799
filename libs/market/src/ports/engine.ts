import type { ModelMemory } from '@freehold/domain';
import type {
  ChatOutput,
  ChatWork,
  EmbeddingOutput,
  EmbeddingWork,
  FailedOutput,
  RowScore,
  SegmentOutput,
  SegmentWork,
  Work,
  WorkOutput,
} from '@freehold/protocol';

/** What one engine can do with one model. `engineClass` is engine build + hardware family + dtype + quantisation. */
export interface EngineModel {
  readonly name: string;
  /** sha256 over weights + tokenizer + chat template, `sha256:…`; or `declared:…` where the engine cannot show it. */
  readonly digest: string;
  readonly kind: 'chat' | 'embedding' | 'fine-tune';
  readonly quantisation: string;
  readonly contextTokens: number;
  /** Concurrent sequences. */
  readonly slots: number;
  readonly caps: {
    readonly tokens: boolean;
    readonly logprobs: boolean;
    /** Can score a committed text by one prefill: only such engines audit text. */
    readonly promptLogprobs: boolean;
    /** Repeats a seeded run: sampled text token by token, a segment of training bit for bit inside its class. */
    readonly seed: boolean;
    readonly lora: boolean;
    readonly embeddings: boolean;
  };
  /** What it takes of memory; absent where the engine does not know. */
  readonly memory?: ModelMemory | undefined;
}

export interface EngineDescription {
  readonly engine: string;
  readonly version: string;
  readonly engineClass: string;
  readonly models: readonly EngineModel[];
}

/** A piece of a streamed answer. */
export interface ChatDelta {
  readonly text: string;
  readonly tokens: readonly number[];
}

/**
 * What runs a model. Every implementation passes `engineSuite` of `@freehold/testing`. Native engines live in child
 * processes with a memory limit, because models and prompts are untrusted input to native parsers; a crash of the child is
 * an {@link EngineError} with `retryable: true`, never a crash of the node.
 */
export abstract class Engine {
  abstract describe(): Promise<EngineDescription>;
  /** Names of the models that answer now without being loaded first; null: all that it describes, always. */
  loaded(): Promise<ReadonlySet<string> | null> {
    return Promise.resolve(null);
  }
  /** Runs one chat. `onDelta` sees text as it comes; the result repeats all of it. */
  abstract chat(
    model: string,
    work: ChatWork,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal,
  ): Promise<ChatOutput | FailedOutput>;
  abstract embed(model: string, work: EmbeddingWork, signal: AbortSignal): Promise<EmbeddingOutput | FailedOutput>;
  /** Trains one segment; its checkpoint is among the engine's blobs then. Only engines with a model of kind `fine-tune` do. */
  segment(model: string, _work: SegmentWork, _signal: AbortSignal): Promise<SegmentOutput> {
    return Promise.reject(new EngineError('unsupported_kind', `${model} is not trained by this engine.`, false));
  }
  /** Runs a committed row again and says how it compares. Never re-tokenises the committed output. */
  abstract score(
    model: string,
    rowNo: number,
    work: Work,
    committed: WorkOutput,
    signal: AbortSignal,
  ): Promise<RowScore>;
  abstract close(): Promise<void>;
}

/** The engine failed, not the row: `retryable` says whether another attempt may succeed. */
export class EngineError extends Error {
  readonly code: string;
  readonly retryable: boolean;
  constructor(code: string, message: string, retryable: boolean) {
    super(message);
    this.name = 'EngineError';
    this.code = code;
    this.retryable = retryable;
  }
}
