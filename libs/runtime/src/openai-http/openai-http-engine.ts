import { z } from 'zod';
import { Engine, EngineError, type ChatDelta, type EngineDescription, type EngineModel } from '@freehold/market';
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
import { scoreEmbedding } from '../score-embedding.ts';
import { decodeVector, encodeVector } from '../vectors.ts';
import { ChatGathering } from './chat-stream.ts';
import { HttpRefusal, postJson, request, RESPONSE_BYTES_MAX, serverRoot, textOfBody, type Server } from './http.ts';
import { detectServer, loadedModels, type DetectedServer } from './probes.ts';
import { scoreByPrompt } from './score-by-prompt.ts';
import { SseReader } from './sse.ts';

const CALL_TIMEOUT_MS = 120_000;
/** Servers load and unload models; whoever asks what there is hears of it within this time. */
const DETECTED_FOR_MS = 30_000;

export interface OpenAiHttpSpec {
  /** Where the server listens, with or without `/v1`. */
  readonly url: string;
  readonly apiKey?: string;
  readonly callTimeoutMs?: number;
  /** What the operator knows better than the server: a model's digest, slots or context, by the server's name for it. */
  readonly models?: Readonly<
    Record<string, Partial<Pick<EngineModel, 'digest' | 'slots' | 'contextTokens' | 'quantisation' | 'kind'>>>
  >;
}

/** Any server that speaks OpenAI's API. What it is and can do is asked of it, at the first call. */
export function openAiHttpEngine(spec: OpenAiHttpSpec): Engine {
  return new OpenAiHttpEngine(spec);
}

const Vectors = z.object({
  data: z.array(z.object({ index: z.int().min(0).optional(), embedding: z.union([z.string(), z.array(z.number())]) })),
  usage: z.object({ prompt_tokens: z.int().min(0) }),
});

class OpenAiHttpEngine extends Engine {
  readonly #spec: OpenAiHttpSpec;
  readonly #server: Server;
  readonly #closing = new AbortController();
  #detected: Promise<DetectedServer> | undefined;
  #detectedAt = 0;

  /** What the server last said of its memory; null while it never did. */
  #inMemory: ReadonlySet<string> | null = null;

  constructor(spec: OpenAiHttpSpec) {
    super();
    this.#spec = spec;
    this.#server = { root: serverRoot(spec.url), apiKey: spec.apiKey };
  }

  async describe(): Promise<EngineDescription> {
    if (performance.now() - this.#detectedAt > DETECTED_FOR_MS) this.#detected = undefined;
    const { dialect, version } = await this.#detect();
    const models = await this.#models();
    return { engine: 'openai-http', version: `${dialect} ${version}`, engineClass: `${dialect}/${version}`, models };
  }

  override async loaded(): Promise<ReadonlySet<string> | null> {
    const { dialect } = await this.#detect();
    // A server that loads a model may not answer in time: what it said before is nearer to the truth than "everything".
    this.#inMemory = (await loadedModels(this.#server, dialect)) ?? this.#inMemory;
    return this.#inMemory;
  }

  async chat(
    name: string,
    work: ChatWork,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal,
  ): Promise<ChatOutput | FailedOutput> {
    const { caps } = await this.#model(name);
    if (work.adapter !== undefined)
      throw new EngineError('adapter_unsupported', 'This engine loads no adapters by their hash.', false);
    const { apiPath, dialect } = await this.#detect();
    const wantsLogprobs = work.logprobs && caps.logprobs;
    const gathering = new ChatGathering({ withIds: caps.tokens, topLogprobs: work.topLogprobs, onDelta });
    const body = {
      model: name,
      messages: work.messages,
      max_tokens: work.maxTokens,
      temperature: work.temperature,
      top_p: work.topP,
      seed: work.seed,
      ...(work.stop.length > 0 && { stop: work.stop }),
      ...(wantsLogprobs && { logprobs: true, top_logprobs: work.topLogprobs }),
      ...(caps.tokens && { return_token_ids: true }),
      // Shared caches make a row depend on the rows before it.
      ...(dialect === 'llama-server' && { cache_prompt: false }),
      stream: true,
      stream_options: { include_usage: true },
    };
    return this.#row(signal, async (deadline) => {
      const response = await request(this.#server, `${apiPath}/chat/completions`, body, deadline);
      const events = new SseReader();
      for await (const piece of textOfBody(response, RESPONSE_BYTES_MAX, deadline, this.#server)) {
        for (const event of events.push(piece)) gathering.take(event);
      }
      for (const event of events.finish()) gathering.take(event);
      return gathering.output(wantsLogprobs);
    });
  }

  async embed(name: string, work: EmbeddingWork, signal: AbortSignal): Promise<EmbeddingOutput | FailedOutput> {
    await this.#model(name);
    const { apiPath, dialect } = await this.#detect();
    if (work.inputs.some((input) => input.length === 0))
      return failed('unsupported_input', 'An input is empty: send at least one character.');
    if (dialect !== 'vllm' && work.inputs.some((input) => typeof input !== 'string')) {
      return failed('unsupported_input', 'This engine takes text only: send the text itself instead of token ids.');
    }
    return this.#row(signal, async (deadline) => {
      const body = { model: name, input: work.inputs, encoding_format: 'base64' };
      const answer = Vectors.safeParse(await postJson(this.#server, `${apiPath}/embeddings`, body, deadline));
      if (!answer.success)
        throw new EngineError(
          'engine_broken',
          `The engine answered in another shape: ${answer.error.message.slice(0, 256)}`,
          true,
        );
      return embeddingOf(answer.data, work.inputs.length);
    });
  }

  async score(name: string, rowNo: number, work: Work, committed: WorkOutput, signal: AbortSignal): Promise<RowScore> {
    const { caps } = await this.#model(name);
    if (work.kind === 'segment' || (work.kind === 'chat' && work.adapter !== undefined))
      throw new EngineError(
        'cannot_score',
        'This engine neither trains nor loads adapters: use another auditor.',
        false,
      );
    if (work.kind === 'embedding') return scoreEmbedding(rowNo, await this.embed(name, work, signal), committed);
    if (!caps.promptLogprobs) {
      throw new EngineError(
        'cannot_score',
        'This engine has no log probabilities of a prompt: use another auditor.',
        false,
      );
    }
    if (committed.kind === 'embedding' || committed.kind === 'segment')
      return { kind: 'failed', rowNo, code: 'not_refused_here', agrees: false };
    const own = await this.#row(signal, async (deadline) => {
      const output = committed.kind === 'failed' ? { ...EMPTY, unitsIn: 0 } : committed;
      return scoreByPrompt(this.#server, name, rowNo, work, output, deadline);
    });
    if (!('rowNo' in own)) {
      return {
        kind: 'failed',
        rowNo,
        code: own.code,
        agrees: committed.kind === 'failed' && committed.code === own.code,
      };
    }
    if (committed.kind === 'failed') return { kind: 'failed', rowNo, code: 'not_refused_here', agrees: false };
    return own;
  }

  close(): Promise<void> {
    this.#closing.abort();
    return Promise.resolve();
  }

  /** Runs a request under the deadline; what the server refuses about the row itself becomes the row's failure. */
  async #row<T>(signal: AbortSignal, run: (deadline: AbortSignal) => Promise<T>): Promise<T | FailedOutput> {
    if (this.#closing.signal.aborted) throw new EngineError('engine_closed', 'The engine was closed.', false);
    const deadline = AbortSignal.any([
      signal,
      this.#closing.signal,
      AbortSignal.timeout(this.#spec.callTimeoutMs ?? CALL_TIMEOUT_MS),
    ]);
    try {
      return await run(deadline);
    } catch (error) {
      if (error instanceof HttpRefusal) return refusalOf(error);
      throw error;
    }
  }

  async #detect(): Promise<DetectedServer> {
    if (this.#detected === undefined) {
      this.#detected = detectServer(this.#server);
      this.#detectedAt = performance.now();
    }
    try {
      return await this.#detected;
    } catch (error) {
      // Not there yet is not never: the next call asks again.
      this.#detected = undefined;
      throw error;
    }
  }

  async #models(): Promise<EngineModel[]> {
    const { models } = await this.#detect();
    return models.map((model) => ({ ...model, ...this.#spec.models?.[model.name] }));
  }

  async #model(name: string): Promise<EngineModel> {
    const models = await this.#models();
    const found = models.find((model) => model.name === name);
    if (found !== undefined) return found;
    throw new EngineError(
      'model_not_loaded',
      `${name} is not served; there is ${models.map((model) => model.name).join(', ')}.`,
      false,
    );
  }
}

const EMPTY: ChatOutput = { kind: 'chat', tokens: [], text: '', finish: 'stop', unitsIn: 0, unitsOut: 0 };

/** 4xx about the row is the row's own failure; the rest is the engine's. */
function refusalOf(refusal: HttpRefusal): FailedOutput {
  const { status, message, body } = refusal;
  if (status === 401 || status === 403)
    throw new EngineError('engine_unauthorised', `${message}: check the engine's API key.`, false);
  if (status === 404) throw new EngineError('model_not_loaded', message, false);
  if (status === 408 || status === 429 || status >= 500) throw new EngineError('engine_unavailable', message, true);
  if (/context|too long|maximum.{0,20}length|exceed/iu.test(body)) return failed('context_length_exceeded', message);
  return failed('refused_by_engine', message);
}

function embeddingOf(answer: z.infer<typeof Vectors>, inputs: number): EmbeddingOutput {
  const ordered = [...answer.data].sort((a, b) => (a.index ?? 0) - (b.index ?? 0));
  const vectors = ordered.map(({ embedding }) =>
    typeof embedding === 'string' ? decodeVector(embedding) : Float32Array.from(embedding),
  );
  const dimensions = vectors[0]?.length ?? 0;
  const sound =
    vectors.length === inputs &&
    dimensions > 0 &&
    vectors.every((vector) => vector.length === dimensions && vector.every(Number.isFinite));
  if (!sound)
    throw new EngineError(
      'engine_broken',
      `The engine answered ${vectors.length} vectors of unlike or no numbers to ${inputs} inputs.`,
      true,
    );
  return { kind: 'embedding', vectors: vectors.map(encodeVector), dimensions, unitsIn: answer.usage.prompt_tokens };
}

function failed(code: string, message: string): FailedOutput {
  return { kind: 'failed', code, message: message.slice(0, 1_024) };
}
