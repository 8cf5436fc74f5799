import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Dialect } from './probes.ts';

/** Pieces of a made-up vocabulary; the last one ends an answer and is never shown. */
const PIECES = [
  'The',
  ' river',
  ' runs',
  ' fast',
  ' é',
  'tude',
  ' 𝄞',
  ' and',
  ' cold',
  ' past',
  ' Łódź',
  ',',
  ' then',
  ' slow',
  '.',
  ' word',
  '<end>',
];
const END = PIECES.length - 1;
const CONTEXT_TOKENS = 64;
const PROMPT_OVERHEAD = 4;
/** Stands for any word of a prompt. */
const PROMPT_ID = 1_000;
const DIMENSIONS = 16;

interface Body {
  readonly model?: string;
  readonly messages?: readonly { readonly content: string }[];
  readonly prompt?: readonly number[];
  readonly tokens?: readonly number[];
  readonly input?: string | readonly string[];
  readonly encoding_format?: string;
  readonly max_tokens?: number;
  readonly stop?: readonly string[];
  readonly logprobs?: boolean;
  readonly top_logprobs?: number;
  readonly return_token_ids?: boolean;
  readonly prompt_logprobs?: number;
  readonly seed?: number;
  readonly temperature?: number;
}

export interface DialectServer {
  readonly url: string;
  /** Requests seen, `METHOD path`, with what was sent. */
  readonly seen: { readonly route: string; readonly body: Body; readonly authorization: string | undefined }[];
  close(): Promise<void>;
}

type Route = (body: Body, response: ServerResponse) => void;

/**
 * A small real HTTP server with the manners of one kind of engine: its own questions, its own shapes, a made-up model
 * `talker` that always answers alike and a made-up `embedder`. For tests of what speaks to such servers.
 */
export async function dialectServer(
  dialect: Dialect,
  overrides: Readonly<Record<string, Route>> = {},
): Promise<DialectServer> {
  const routes: Readonly<Record<string, Route>> = { ...commonRoutes(dialect), ...ROUTES[dialect], ...overrides };
  const seen: DialectServer['seen'] = [];
  const server = createServer((incoming, response) => {
    void bodyOf(incoming).then((body) => {
      const route = `${incoming.method} ${incoming.url}`;
      seen.push({ route, body, authorization: incoming.headers.authorization });
      const handle = routes[route];
      if (handle === undefined) return json(response, { detail: 'Not Found' }, 404);
      handle(body, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

export function json(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

function commonRoutes(dialect: Dialect): Record<string, Route> {
  const owner = dialect === 'tensorrt-llm' ? 'tensorrt_llm' : dialect;
  const length = dialect === 'vllm' || dialect === 'sglang' ? { max_model_len: CONTEXT_TOKENS } : {};
  // SGLang serves one model per process.
  const names = dialect === 'sglang' ? ['talker'] : ['talker', 'embedder'];
  const list = {
    object: 'list',
    data: names.map((id) => ({ id, object: 'model', owned_by: owner, ...length })),
  };
  const path = dialect === 'openvino' ? '/v3' : '/v1';
  return {
    [`GET ${path}/models`]: (_, response) => json(response, list),
    [`POST ${path}/chat/completions`]: (body, response) => void chat(dialect, body, response),
    [`POST ${path}/embeddings`]: (body, response) => embeddings(dialect, body, response),
  };
}

const ROUTES: Readonly<Record<Dialect, Readonly<Record<string, Route>>>> = {
  vllm: {
    'GET /version': (_, response) => json(response, { version: '0.11.0' }),
    'POST /tokenize': (body, response) =>
      json(response, { tokens: promptIds(body), count: promptIds(body).length, max_model_len: CONTEXT_TOKENS }),
    'POST /detokenize': (body, response) => json(response, { prompt: textOf(body.tokens ?? []) }),
    'POST /v1/completions': promptLogprobs,
  },
  'llama-server': {
    'GET /props': (_, response) =>
      json(response, { build_info: 'b6900', total_slots: 2, default_generation_settings: { n_ctx: CONTEXT_TOKENS } }),
    'GET /api/tags': (_, response) => json(response, { models: [] }),
  },
  sglang: {
    'GET /get_model_info': (_, response) => json(response, { model_path: 'made/up', is_generation: true }),
    'GET /get_server_info': (_, response) => json(response, { version: '0.5.4' }),
  },
  ollama: {
    'GET /api/version': (_, response) => json(response, { version: '0.12.6' }),
    'GET /api/tags': (_, response) =>
      json(response, {
        models: ['talker', 'embedder'].map((name, i) => ({
          name,
          digest: String(i + 1).repeat(64),
          size: (i + 1) * 100 * 2 ** 20,
          details: { quantization_level: 'Q4_K_M' },
        })),
      }),
    'GET /api/ps': (_, response) => json(response, { models: [{ name: 'talker', size_vram: 1 }] }),
    'POST /api/show': (body, response) =>
      json(response, {
        capabilities: [body.model === 'embedder' ? 'embedding' : 'completion'],
        model_info: {
          'general.architecture': 'llama',
          'llama.context_length': CONTEXT_TOKENS,
          'llama.block_count': 4,
          'llama.embedding_length': 512,
          'llama.attention.head_count': 8,
          'llama.attention.head_count_kv': 2,
        },
      }),
  },
  'lm-studio': {
    'GET /api/v0/models': (_, response) =>
      json(response, {
        data: [
          { id: 'talker', type: 'llm', state: 'loaded', quantization: '4bit', max_context_length: CONTEXT_TOKENS },
          { id: 'embedder', type: 'embeddings', state: 'not-loaded', max_context_length: CONTEXT_TOKENS },
        ],
      }),
  },
  'tensorrt-llm': { 'GET /version': (_, response) => json(response, { version: '1.2.0' }) },
  openvino: {},
  openai: {},
};

/** The whole answer: every piece but the last two, in an order that the question decides. */
function answerIds(question: string): number[] {
  const shift = [...question].reduce((sum, character) => sum + (character.codePointAt(0) ?? 0), 0) % END;
  return [...Array.from({ length: END }, (_, i) => (i + shift) % END), END];
}

function textOf(ids: readonly number[]): string {
  return ids.map((id) => PIECES[id % PIECES.length] ?? '').join('');
}

function promptIds(body: Body): number[] {
  const words = (body.messages ?? []).flatMap((message) => message.content.split(' '));
  return words.concat(Array.from({ length: PROMPT_OVERHEAD }, () => '')).map(() => PROMPT_ID);
}

const TOO_LONG = {
  message: `This model's maximum context length is ${CONTEXT_TOKENS} tokens.`,
  type: 'BadRequestError',
  code: 400,
};

async function chat(dialect: Dialect, body: Body, response: ServerResponse): Promise<void> {
  const promptTokens = promptIds(body).length;
  if (promptTokens >= CONTEXT_TOKENS) return json(response, { object: 'error', error: TOO_LONG }, 400);
  const all = answerIds(body.messages?.at(-1)?.content ?? '').slice(0, body.max_tokens);
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const send = (value: unknown): void => void response.write(`data: ${JSON.stringify(value)}\n\n`);
  const choice = (rest: object): object => ({
    id: 'x',
    object: 'chat.completion.chunk',
    choices: [{ index: 0, ...rest }],
  });
  send(choice({ delta: { role: 'assistant', content: '' }, finish_reason: null }));
  let text = '';
  let count = 0;
  let finish = all.at(-1) === END ? 'stop' : 'length';
  for (const id of all) {
    count += 1;
    const before = text;
    text += id === END ? '' : textOf([id]);
    const stop = (body.stop ?? []).map((each) => text.indexOf(each)).filter((at) => at >= 0);
    if (stop.length > 0) [text, finish] = [text.slice(0, Math.min(...stop)), 'stop'];
    const top = Array.from({ length: body.top_logprobs ?? 0 }, (_, i) => ({
      token: textOf([id + i]),
      logprob: -0.1 - i,
    }));
    send(
      choice({
        delta: { content: text.slice(before.length) },
        ...(body.return_token_ids === true && dialect === 'vllm' && { token_ids: [id] }),
        ...(body.logprobs === true && {
          logprobs: { content: [{ token: textOf([id]), logprob: -0.1, top_logprobs: top }] },
        }),
        finish_reason: null,
      }),
    );
    await new Promise((resolve) => setImmediate(resolve));
    if (stop.length > 0) break;
  }
  send(choice({ delta: {}, finish_reason: finish }));
  send({
    id: 'x',
    choices: [],
    usage: { prompt_tokens: promptTokens, completion_tokens: count, total_tokens: promptTokens + count },
  });
  response.end('data: [DONE]\n\n');
}

/** vLLM: every position's own token, and the best one. Greedy follows the answer's order, whatever the prompt was. */
function promptLogprobs(body: Body, response: ServerResponse): void {
  const ids = body.prompt ?? [];
  if (ids.length >= CONTEXT_TOKENS) return json(response, { error: TOO_LONG }, 400);
  if (ids.some((id) => id > PROMPT_ID))
    return json(response, { error: { message: `Token id ${Math.max(...ids)} is out of vocabulary` } }, 400);
  const position = (id: number, at: number): object | null => {
    if (at === 0) return null;
    const best = ((ids[at - 1] ?? 0) + 1) % END;
    // The answer's first token follows the prompt, and its end may follow any: both count as expected.
    const follows = id === best || id === END || ids[at - 1] === PROMPT_ID;
    if (follows) return { [id]: { logprob: -0.1, rank: 1, decoded_token: textOf([id]) } };
    return { [best]: { logprob: -0.1, rank: 1 }, [id]: { logprob: -7.5, rank: 9 } };
  };
  json(response, { choices: [{ text: '', prompt_logprobs: ids.map(position) }] });
}

function embeddings(dialect: Dialect, body: Body, response: ServerResponse): void {
  if (body.model !== 'embedder')
    return json(response, { error: { message: 'The model does not support Embeddings API' } }, 400);
  const inputs = typeof body.input === 'string' ? [body.input] : (body.input ?? []);
  const base64 = body.encoding_format === 'base64' && dialect !== 'ollama';
  const data = inputs.map((input, index) => ({
    object: 'embedding',
    index,
    embedding: base64 ? base64Of(vectorOf(input)) : [...vectorOf(input)],
  }));
  const tokens = inputs.reduce((sum, input) => sum + input.split(' ').length, 0);
  json(response, { object: 'list', data: data.reverse(), usage: { prompt_tokens: tokens, total_tokens: tokens } });
}

function vectorOf(text: string): Float32Array {
  const raw = Array.from({ length: DIMENSIONS }, (_, i) =>
    Math.sin([...text].reduce((sum, c, at) => sum + (c.codePointAt(0) ?? 0) * (at + 1) * (i + 1), i)),
  );
  const norm = Math.hypot(...raw);
  return Float32Array.from(raw, (value) => value / norm);
}

function base64Of(vector: Float32Array): string {
  return Buffer.from(vector.buffer).toString('base64');
}

async function bodyOf(incoming: IncomingMessage): Promise<Body> {
  let text = '';
  for await (const chunk of incoming) text += String(chunk);
  return (text === '' ? {} : JSON.parse(text)) as Body;
}
