import { z } from 'zod';
import { EngineError, type EngineModel } from '@freehold/market';
import { cacheBytesOf } from '../attention-cache.ts';
import { getJson, HttpRefusal, postJson, type Server } from './http.ts';

/** What only some kinds of servers know: one that says neither yes nor no to it holds up a start for so long. */
const PROBE_TIMEOUT_MS = 2_000;
/** What every kind must answer. Milliseconds on a quiet host; on a busy one nobody is refused, nor taken for another kind. */
const MUST_TIMEOUT_MS = 10_000;
const MODELS_PATH = '/v1/models';
const MODELS_MAX = 256;
const CONTEXT_TOKENS_UNKNOWN = 4_096;
const SLOTS_UNKNOWN = 4;
/** What Ollama runs a model with on the smallest GPUs, unless it is told otherwise: larger ones it gives more. */
const OLLAMA_CACHE_TOKENS = 4_096;

export const DIALECTS = [
  'llama-server',
  'sglang',
  'ollama',
  'lm-studio',
  'vllm',
  'tensorrt-llm',
  'openvino',
  'openai',
] as const;
export type Dialect = (typeof DIALECTS)[number];

/** What was found behind a URL. `apiPath` is where its OpenAI surface begins. */
export interface DetectedServer {
  readonly dialect: Dialect;
  readonly version: string;
  readonly apiPath: '/v1' | '/v3';
  readonly models: readonly EngineModel[];
}

interface Found {
  readonly version: string;
  readonly details: ReadonlyMap<string, Partial<EngineModel>>;
}

const ModelList = z.object({
  data: z
    .array(z.object({ id: z.string(), owned_by: z.string().optional(), max_model_len: z.number().optional() }))
    .max(MODELS_MAX),
});
type Listed = z.infer<typeof ModelList>['data'][number];

/** What each dialect is known to do. Prompt log probabilities by token id: vLLM alone has them on its OpenAI surface. */
const CAPS: Readonly<Record<Dialect, Pick<EngineModel['caps'], 'tokens' | 'logprobs' | 'promptLogprobs'>>> = {
  vllm: { tokens: true, logprobs: true, promptLogprobs: true },
  'llama-server': { tokens: false, logprobs: true, promptLogprobs: false },
  sglang: { tokens: false, logprobs: true, promptLogprobs: false },
  ollama: { tokens: false, logprobs: false, promptLogprobs: false },
  'lm-studio': { tokens: false, logprobs: false, promptLogprobs: false },
  'tensorrt-llm': { tokens: false, logprobs: false, promptLogprobs: false },
  openvino: { tokens: false, logprobs: false, promptLogprobs: false },
  openai: { tokens: false, logprobs: false, promptLogprobs: false },
};

/**
 * Finds out which server answers and what it serves, by asking every kind's own question at once.
 *
 * Servers imitate each other (llama-server answers Ollama's questions), so the order of {@link DIALECTS} decides.
 *
 * @throws {EngineError} When nothing there speaks OpenAI's API.
 */
export async function detectServer(server: Server): Promise<DetectedServer> {
  const [v1, v3, ...answers] = await Promise.all([
    ask(server, MODELS_PATH, ModelList),
    ask(server, '/v3/models', ModelList),
    llamaServer(server),
    sglang(server),
    ollama(server),
    lmStudio(server),
    versionOf(server, v1Owner('vllm')),
    versionOf(server, v1Owner('tensorrt_llm')),
  ]);
  const list = v1 ?? v3;
  if (list === undefined) {
    throw new EngineError(
      'engine_not_found',
      `${server.root} does not answer GET /v1/models: start the server or check the URL.`,
      true,
    );
  }
  const at = answers.findIndex((answer) => answer !== undefined);
  const dialect = at >= 0 ? (DIALECTS[at] ?? 'openai') : v1 === undefined ? 'openvino' : 'openai';
  const found = answers[at] ?? { version: 'unknown', details: new Map<string, Partial<EngineModel>>() };
  const apiPath = v1 === undefined ? '/v3' : '/v1';
  const models = await Promise.all(
    list.data.map((listed) =>
      modelOf(server, dialect, apiPath, listed, found.details.get(listed.id) ?? found.details.get('*')),
    ),
  );
  return { dialect, version: found.version, apiPath, models };

  function v1Owner(owner: string): z.ZodType<{ data: Listed[] }> {
    return ModelList.refine((models) => models.data.some((model) => model.owned_by === owner));
  }
}

async function modelOf(
  server: Server,
  dialect: Dialect,
  apiPath: string,
  listed: Listed,
  details: Partial<EngineModel> = {},
): Promise<EngineModel> {
  const kind = details.kind ?? (await kindOf(server, apiPath, listed.id));
  const chat = kind === 'chat';
  const { tokens, logprobs, promptLogprobs } = CAPS[dialect];
  return {
    name: listed.id,
    digest: details.digest ?? declaredDigest(listed.id),
    kind,
    quantisation: details.quantisation ?? 'unknown',
    contextTokens: details.contextTokens ?? listed.max_model_len ?? CONTEXT_TOKENS_UNKNOWN,
    slots: details.slots ?? SLOTS_UNKNOWN,
    caps: {
      tokens: chat && tokens,
      logprobs: chat && logprobs,
      promptLogprobs: chat && promptLogprobs,
      // Its own sampler, not ours: no auditor can replay it.
      seed: false,
      lora: false,
      embeddings: !chat,
    },
    ...(details.memory && { memory: details.memory }),
  };
}

/** Model lists do not say what a model is for; a model that embeds a word is for embedding. */
async function kindOf(server: Server, apiPath: string, model: string): Promise<'chat' | 'embedding'> {
  try {
    await postJson(server, `${apiPath}/embeddings`, { model, input: 'a' }, AbortSignal.timeout(MUST_TIMEOUT_MS));
    return 'embedding';
  } catch (error) {
    if (error instanceof HttpRefusal || error instanceof EngineError) return 'chat';
    throw error;
  }
}

const Props = z.object({
  build_info: z.string(),
  total_slots: z.int().min(1).optional(),
  default_generation_settings: z.object({ n_ctx: z.int().min(1).optional() }).optional(),
});

async function llamaServer(server: Server): Promise<Found | undefined> {
  const props = await ask(server, '/props', Props);
  if (props === undefined) return undefined;
  const contextTokens = props.default_generation_settings?.n_ctx;
  const details = { ...(props.total_slots && { slots: props.total_slots }), ...(contextTokens && { contextTokens }) };
  return { version: props.build_info, details: new Map([['*', details]]) };
}

async function sglang(server: Server): Promise<Found | undefined> {
  const info = await ask(server, '/get_model_info', z.object({ model_path: z.string(), is_generation: z.boolean() }));
  if (info === undefined) return undefined;
  const about = await ask(server, '/get_server_info', z.object({ version: z.string().optional() }));
  const kind = info.is_generation ? ('chat' as const) : ('embedding' as const);
  return { version: about?.version ?? 'unknown', details: new Map([['*', { kind }]]) };
}

const OllamaTags = z.object({
  models: z
    .array(
      z.object({
        name: z.string(),
        digest: z.string().optional(),
        size: z.number().optional(),
        details: z.object({ quantization_level: z.string().optional() }).optional(),
      }),
    )
    .max(MODELS_MAX),
});
const OllamaShow = z.object({
  capabilities: z.array(z.string()).optional(),
  model_info: z.record(z.string(), z.unknown()).optional(),
});

async function ollama(server: Server): Promise<Found | undefined> {
  const [version, tags] = await Promise.all([
    ask(server, '/api/version', z.object({ version: z.string() })),
    ask(server, '/api/tags', OllamaTags),
  ]);
  if (version === undefined || tags === undefined) return undefined;
  const details = await Promise.all(
    tags.models.map(async (tag): Promise<[string, Partial<EngineModel>]> => {
      const show = await ask(server, '/api/show', OllamaShow, { model: tag.name });
      const head = (name: string): unknown =>
        Object.entries(show?.model_info ?? {}).find(([key]) => key.slice(key.indexOf('.') + 1) === name)?.[1];
      const context = head('context_length');
      const kind = show?.capabilities?.includes('embedding') === true ? ('embedding' as const) : ('chat' as const);
      const memory = ollamaMemory(kind, tag.size, head);
      return [
        tag.name,
        {
          kind,
          // The manifest names weights, template and parameters by their hashes, so its own digest is the model's identity.
          ...(/^[0-9a-f]{64}$/u.test(tag.digest ?? '') && { digest: `sha256:${tag.digest}` }),
          ...(tag.details?.quantization_level && { quantisation: tag.details.quantization_level }),
          ...(typeof context === 'number' && context > 0 && { contextTokens: Math.floor(context) }),
          ...(memory && { memory }),
        },
      ];
    }),
  );
  return { version: version.version, details: new Map(details) };
}

/** By the size of its files and the head of its weights. An embedder reads each text once, and keeps nothing of it. */
function ollamaMemory(
  kind: EngineModel['kind'],
  sizeBytes: number | undefined,
  head: (name: string) => unknown,
): EngineModel['memory'] {
  const cacheBytesPerToken = kind === 'embedding' ? 0 : cacheBytesOf(head);
  if (cacheBytesPerToken === undefined || sizeBytes === undefined || !(sizeBytes > 0)) return undefined;
  const context = head('context_length');
  const cacheTokens = Math.min(OLLAMA_CACHE_TOKENS, typeof context === 'number' && context >= 1 ? context : Infinity);
  return { weightsMib: Math.ceil(sizeBytes / 2 ** 20), cacheBytesPerToken, cacheTokens: Math.floor(cacheTokens) };
}

const OllamaRunning = z.object({ models: z.array(z.object({ name: z.string() })).max(MODELS_MAX) });

/** Models in memory, of servers that load them when they are asked for; null of all others, and of one that does not say. */
export async function loadedModels(server: Server, dialect: Dialect): Promise<ReadonlySet<string> | null> {
  if (dialect === 'ollama') {
    const running = await ask(server, '/api/ps', OllamaRunning);
    return running === undefined ? null : new Set(running.models.map(({ name }) => name));
  }
  if (dialect !== 'lm-studio') return null;
  const list = await ask(server, '/api/v0/models', LmStudioModels);
  if (list === undefined || list.data.some(({ state }) => state === undefined)) return null;
  return new Set(list.data.filter(({ state }) => state === 'loaded').map(({ id }) => id));
}

const LmStudioModels = z.object({
  data: z
    .array(
      z.object({
        id: z.string(),
        type: z.string(),
        state: z.string().optional(),
        quantization: z.string().optional(),
        max_context_length: z.int().min(1).optional(),
      }),
    )
    .max(MODELS_MAX),
});

async function lmStudio(server: Server): Promise<Found | undefined> {
  const list = await ask(server, '/api/v0/models', LmStudioModels);
  if (list === undefined) return undefined;
  const details = list.data.map((model): [string, Partial<EngineModel>] => [
    model.id,
    {
      kind: model.type === 'embeddings' ? 'embedding' : 'chat',
      ...(model.quantization && { quantisation: model.quantization }),
      ...(model.max_context_length && { contextTokens: model.max_context_length }),
    },
  ]);
  return { version: 'unknown', details: new Map(details) };
}

/** vLLM and TensorRT-LLM both have `/version`; who owns the models tells them apart. */
async function versionOf(server: Server, models: z.ZodType<{ data: Listed[] }>): Promise<Found | undefined> {
  const [owned, version] = await Promise.all([
    ask(server, MODELS_PATH, models),
    ask(server, '/version', z.object({ version: z.string() })),
  ]);
  return owned === undefined ? undefined : { version: version?.version ?? 'unknown', details: new Map() };
}

/** One question; undefined when the server does not know it, answers otherwise, or takes too long. */
async function ask<T>(server: Server, path: string, answer: z.ZodType<T>, body?: unknown): Promise<T | undefined> {
  const signal = AbortSignal.timeout(path === MODELS_PATH ? MUST_TIMEOUT_MS : PROBE_TIMEOUT_MS);
  try {
    const got = body === undefined ? await getJson(server, path, signal) : await postJson(server, path, body, signal);
    const parsed = answer.safeParse(got);
    return parsed.success ? parsed.data : undefined;
  } catch (error) {
    if (error instanceof HttpRefusal || error instanceof EngineError) return undefined;
    throw error;
  }
}

/** The server's word for the model, in the letters that offers allow. */
function declaredDigest(id: string): string {
  return `declared:${id.replaceAll(/[^\x21-\x7e]/gu, '_').slice(0, 128)}`;
}
