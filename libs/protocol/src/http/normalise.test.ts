import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ANY_NODE } from '@freehold/domain';
import { ChatWork, EmbeddingWork } from '../work.ts';
import { lineOfWork, parseBatchLine, workOfBatchLine, workOfLineBytes } from './batch-line.ts';
import { parseBatchRequest } from './batch-request.ts';
import { normaliseChat, OUTPUT_TOKENS_DEFAULT } from './chat-request.ts';
import { normaliseEmbedding } from './embedding-request.ts';
import { worstUsage } from './worst-usage.ts';

const messages = [{ role: 'user', content: 'hi' }];
const chat = (change: object): ReturnType<typeof normaliseChat> =>
  normaliseChat({ model: 'm', messages, ...change }, 'id-1');
const workOf = (change: object): ChatWork => {
  const parsed = chat(change);
  if (!parsed.ok) throw new Error(parsed.problem.message);
  return parsed.value.work;
};

describe('a chat body', () => {
  it('becomes work that engines accept, with everything that was left out decided', () => {
    const work = workOf({});
    expect(ChatWork.parse(work)).toEqual(work);
    expect(work).toMatchObject({
      maxTokens: OUTPUT_TOKENS_DEFAULT,
      temperature: 1,
      topP: 1,
      stop: [],
      logprobs: false,
      topLogprobs: 0,
    });
  });

  it('gives the same work for the same id and another seed for another, unless the requester names one', () => {
    expect(workOf({})).toEqual(workOf({}));
    const other = normaliseChat({ model: 'm', messages }, 'id-2');
    expect(other.ok && other.value.work.seed).not.toBe(workOf({}).seed);
    expect(workOf({ seed: 7 }).seed).toBe(7);
    expect(workOf({ seed: -1 }).seed).toBe(2 ** 32 - 1);
  });

  it('reads both names of the token limit, the newer first, and caps it', () => {
    expect(workOf({ max_tokens: 5 }).maxTokens).toBe(5);
    expect(workOf({ max_tokens: 5, max_completion_tokens: 6 }).maxTokens).toBe(6);
    expect(workOf({ max_tokens: 10 ** 9 }).maxTokens).toBe(4_096);
  });

  it('joins text parts, takes developer for system, and a lone stop for a list', () => {
    const parts = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ];
    expect(
      workOf({
        messages: [
          { role: 'developer', content: parts },
          { role: 'assistant', content: null },
        ],
        stop: 'x',
      }),
    ).toMatchObject({
      messages: [
        { role: 'system', content: 'ab' },
        { role: 'assistant', content: '' },
      ],
      stop: ['x'],
    });
  });

  it('takes top_p 0 for greedy', () => {
    expect(workOf({ top_p: 0, temperature: 1.5 })).toMatchObject({ temperature: 0, topP: 1 });
  });

  it.each([
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'invalid_value',
      'messages[0].content',
    ],
    [{ messages: [{ role: 'user', content: '' }] }, 'invalid_value', 'messages'],
    [{ messages: [{ content: 'x' }] }, 'invalid_value', 'messages[0].role'],
    [{ max_tokens: 0 }, 'invalid_value', 'max_tokens'],
    [{ max_tokens: 1.5 }, 'invalid_value', 'max_tokens'],
    [{ top_logprobs: 1 }, 'invalid_value', 'top_logprobs'],
    [{ frequency_penalty: 9 }, 'invalid_value', 'frequency_penalty'],
    [{ n: 128 }, 'unsupported_value', 'n'],
    [{ model: undefined }, 'missing_required_parameter', 'model'],
    [{ messages: Array.from({ length: 257 }, () => messages[0]) }, 'invalid_value', 'messages'],
  ])('is refused when it says %j', (change, code, param) => {
    expect(chat(change)).toMatchObject({ ok: false, problem: { code, param } });
  });

  it('names what it drops, but not what asks for nothing', () => {
    const parsed = chat({
      tools: [],
      tool_choice: 'none',
      response_format: { type: 'text' },
      n: 1,
      logit_bias: {},
      user: 'u',
      response_format2: 'y',
      'evil\r\nheader': 1,
    });
    expect(parsed.ok && parsed.value.ignored).toEqual(['response_format2', 'evil??header']);
    expect(chat({ response_format: { type: 'json_object' } })).toMatchObject({
      value: { ignored: ['response_format'] },
    });
  });

  it('never throws, whatever comes, and never lets anything through that the engines’ schema refuses', () => {
    fc.assert(
      fc.property(
        fc.object({
          key: fc.constantFrom(
            'model',
            'messages',
            'seed',
            'stop',
            'temperature',
            'max_tokens',
            'role',
            'content',
            'logprobs',
          ),
        }),
        (body) => {
          const parsed = normaliseChat(body, 'x');
          return !parsed.ok || ChatWork.safeParse(parsed.value.work).success;
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('an embedding body', () => {
  it.each([
    ['x', ['x']],
    [
      ['x', 'y'],
      ['x', 'y'],
    ],
    [[1, 2], [[1, 2]]],
    [
      [[1], [2, 3]],
      [[1], [2, 3]],
    ],
  ])('takes %j', (input, inputs) => {
    const parsed = normaliseEmbedding({ model: 'm', input });
    expect(parsed).toMatchObject({ ok: true, value: { work: { kind: 'embedding', inputs }, encoding: 'float' } });
    expect(parsed.ok && EmbeddingWork.safeParse(parsed.value.work).success).toBe(true);
  });

  it.each([
    [''],
    [[]],
    [['']],
    [[[]]],
    [[1.5]],
    [['x', 1]],
    [null],
    [Array.from({ length: 2_049 }, () => 'x')],
    [['x'.repeat(600_000), 'y'.repeat(600_000)]],
  ])('refuses an unfit input', (input) => {
    expect(normaliseEmbedding({ model: 'm', input })).toMatchObject({
      ok: false,
      problem: { param: expect.stringMatching(/^input/) },
    });
  });
});

describe('a line of a batch', () => {
  const line = (change: object): string =>
    JSON.stringify({
      custom_id: 'a',
      method: 'POST',
      url: '/v1/chat/completions',
      body: { model: 'm', messages },
      ...change,
    });

  it('is read', () => {
    expect(parseBatchLine(line({}), '/v1/chat/completions')).toMatchObject({
      ok: true,
      value: { customId: 'a', model: 'm', work: { kind: 'chat' } },
    });
  });

  it.each([
    ['{', 'invalid_json_line', null],
    ['[]', 'invalid_value', null],
    [line({ custom_id: '' }), 'invalid_value', 'custom_id'],
    [line({ custom_id: 'x'.repeat(513) }), 'invalid_value', 'custom_id'],
    [line({ method: 'GET' }), 'invalid_value', 'method'],
    [line({ url: '/v1/embeddings' }), 'mismatched_url', 'url'],
    [line({ url: '/v1/completions' }), 'mismatched_url', 'url'],
    [line({ body: { model: 'm', messages, stream: true } }), 'unsupported_value', 'body.stream'],
    [line({ body: { model: 'm' } }), 'missing_required_parameter', 'body.messages'],
    [line({ body: 'x' }), 'invalid_value', 'body'],
  ])('is refused: %s', (text, code, param) => {
    expect(parseBatchLine(text, '/v1/chat/completions')).toMatchObject({ ok: false, problem: { code, param } });
  });

  it('never repeats the requester’s text in what it says about broken JSON', () => {
    const refused = parseBatchLine('{"secret-canary" broken', null);
    expect(JSON.stringify(refused)).not.toContain('canary');
  });

  it.each(['a\u0000b', 'a\ud800', '\udc00'])('is refused when its custom_id cannot be stored: %j', (id) => {
    expect(parseBatchLine(line({ custom_id: id }), null)).toMatchObject({ ok: false, problem: { param: 'custom_id' } });
  });

  it('that keeps a streamed request reads back to the same work, and holds nothing else of the body', () => {
    const parts = {
      temperature: fc.double({ min: 0, max: 2, noNaN: true }),
      top_p: fc.double({ min: 0, max: 1, noNaN: true }),
      seed: fc.integer(),
    };
    const texts = fc.array(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 4 });
    const bodies = fc.record(
      { ...parts, stop: texts, logprobs: fc.boolean(), max_tokens: fc.integer({ min: 1, max: 9_000 }) },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(bodies, texts, (body, contents) => {
        const parsed = normaliseChat(
          {
            model: 'm',
            messages: contents.map((content) => ({ role: 'user', content, junk: 'junk' })),
            junk: 'junk',
            ...body,
          },
          'chatcmpl-1',
        );
        if (!parsed.ok) return true;
        const kept = lineOfWork('chatcmpl-1', '/v1/chat/completions', 'm', parsed.value.work);
        expect(workOfBatchLine(kept)).toEqual(parsed.value.work);
        return !kept.includes('"junk"');
      }),
    );
    for (const input of ['x', ['x', 'y'], [1, 2], [[1], [2, 3]]]) {
      const parsed = normaliseEmbedding({ model: 'm', input });
      expect(
        parsed.ok && workOfLineBytes(Buffer.from(lineOfWork('e', '/v1/embeddings', 'm', parsed.value.work))),
      ).toEqual(parsed.ok && parsed.value.work);
    }
    expect(() => workOfBatchLine('{}')).toThrow(/LINE_CHANGED/);
  });
});

describe('the worst case of a row', () => {
  it('is a token for every byte and the template, and never more than the context', () => {
    const work = workOf({ messages: [{ role: 'user', content: 'é'.repeat(10) }], max_tokens: 50 });
    expect(worstUsage(work, null)).toEqual({ inputToken: 20n + 16n + 16n, outputToken: 50n });
    expect(worstUsage(work, 30)).toEqual({ inputToken: 30n, outputToken: 30n });
  });
  it('counts every input of an embedding, whole', () => {
    expect(worstUsage({ kind: 'embedding', inputs: ['abc', [1, 2]] }, 2)).toEqual({ embeddingToken: 5n + 8n });
  });
});

describe('a batch request', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  const batch = (change: object): ReturnType<typeof parseBatchRequest> =>
    parseBatchRequest(
      { input_file_id: 'file-1', endpoint: '/v1/chat/completions', completion_window: '24h', ...change },
      now,
    );

  it('reads the terms of the market from its metadata', () => {
    expect(
      batch({ metadata: { max_cost: '2.50', deadline: '90m', region: 'eu-west', verify: 'strict', own: 'x' } }),
    ).toMatchObject({
      ok: true,
      value: {
        deadlineInMs: 90 * 60_000,
        terms: { maxCost: 2_500_000n, region: 'eu-west', verify: 'strict' },
        metadata: { own: 'x' },
      },
    });
    expect(batch({ metadata: { deadline: '2026-01-01T02:00:00Z' } })).toMatchObject({
      value: { deadlineInMs: 7_200_000 },
    });
    expect(batch({ metadata: { deadline: '48h' } })).toMatchObject({ value: { deadlineInMs: 24 * 3_600_000 } });
    expect(batch({ metadata: null })).toMatchObject({
      ok: true,
      value: { terms: { maxCost: null, verify: 'spot', region: null, needs: ANY_NODE, gang: null, waits: false } },
    });
    const ofNode = {
      gpu_model: 'NVIDIA A100, T4',
      gpus: '2',
      gpu_milli: '500',
      vram_mib: '24576',
      isolation: 'gvisor',
    };
    expect(
      batch({ metadata: { ...ofNode, reputation_floor: '0.95', region: 'eu-west, us', wait: 'true', nodes: '4' } }),
    ).toMatchObject({
      value: {
        terms: {
          region: 'eu-west,us',
          waits: true,
          gang: 4,
          needs: {
            gpuModels: ['NVIDIA A100', 'T4'],
            gpus: 2,
            gpuMilli: 500,
            vramMib: 24_576,
            isolation: 'gvisor',
            reputationFloor: 0.95,
          },
        },
      },
    });
  });

  it.each([
    [{ endpoint: '/v1/responses' }, 'endpoint'],
    [{ completion_window: '1y' }, 'completion_window'],
    [{ completion_window: '999h' }, 'completion_window'],
    [{ metadata: { max_cost: '-1' } }, 'metadata.max_cost'],
    [{ metadata: { max_cost: '1e9' } }, 'metadata.max_cost'],
    [{ metadata: { max_cost: '0.0000001' } }, 'metadata.max_cost'],
    [{ metadata: { deadline: '2025-01-01T00:00:00Z' } }, 'metadata.deadline'],
    [{ metadata: { deadline: 'soon' } }, 'metadata.deadline'],
    [{ metadata: { verify: 'maybe' } }, 'metadata.verify'],
    [{ metadata: { region: 'EU West' } }, 'metadata.region'],
    [{ metadata: { region: 'eu,' } }, 'metadata.region'],
    [{ metadata: { gpu_model: ',' } }, 'metadata.gpu_model'],
    [{ metadata: { gpus: '1000000000' } }, 'metadata.gpus'],
    [{ metadata: { gpus: '0' } }, 'metadata.gpus'],
    [{ metadata: { gpu_milli: '1001' } }, 'metadata.gpu_milli'],
    [{ metadata: { vram_mib: 'NaN' } }, 'metadata.vram_mib'],
    [{ metadata: { vram_mib: '-1' } }, 'metadata.vram_mib'],
    [{ metadata: { isolation: 'a wall' } }, 'metadata.isolation'],
    [{ metadata: { reputation_floor: '1.1' } }, 'metadata.reputation_floor'],
    [{ metadata: { wait: 'maybe' } }, 'metadata.wait'],
    [{ metadata: { nodes: '1' } }, 'metadata.nodes'],
    [{ metadata: { nodes: '65' } }, 'metadata.nodes'],
    [{ metadata: { nodes: '4.0' } }, 'metadata.nodes'],
    [{ metadata: { a: 1 } }, 'metadata.a'],
    [{ metadata: { a: 'x\u0000' } }, 'metadata'],
    [{ metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) }, 'metadata'],
    [{ input_file_id: undefined }, 'input_file_id'],
  ])('is refused by name: %j', (change, param) => {
    expect(batch(change)).toMatchObject({ ok: false, problem: { param } });
  });
});
