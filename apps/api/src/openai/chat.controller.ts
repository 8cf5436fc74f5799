import { Body, Controller, Post, Req, Res } from '@nestjs/common';
import type { Response } from 'express';
import type { KeyRecord, RanBy, StreamStep } from '@freehold/market';
import {
  ApiError,
  chatChunkBody,
  chatCompletionBody,
  fingerprintOf,
  invalidRequest,
  normaliseChat,
  usageBody,
  type AnswerHead,
  type ChatOutput,
  type ChatRequest,
} from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import type { ApiRequest } from '../http/api-request.ts';
import { TakesJson } from '../http/json-body.ts';
import { Stores } from '../http/room.guard.ts';
import { apiErrorOf } from '../http/error.filter.ts';
import { ApiMetrics } from '../http/metrics.ts';
import { EventStream } from './event-stream.ts';
import { Inference, untilGone, warnIgnored } from './inference.ts';

/** A stream's headers go out after this wait even when no token came: until then a refusal can still have its status. */
const HEADERS_AFTER_MS = 2_000;

@Controller('v1/chat/completions')
@Needs('inference')
export class ChatController {
  readonly #inference: Inference;
  readonly #metrics: ApiMetrics;

  constructor(inference: Inference, metrics: ApiMetrics) {
    this.#inference = inference;
    this.#metrics = metrics;
  }

  @Post()
  @Stores()
  @TakesJson()
  async create(
    @Caller() caller: KeyRecord,
    @Req() request: ApiRequest,
    @Res() response: Response,
    @Body() body: unknown,
  ): Promise<void> {
    const startedMs = performance.now();
    const requestId = this.#inference.newId('chatcmpl');
    const chat = normaliseChat(body, requestId);
    if (!chat.ok) throw invalidRequest(chat.problem.code, chat.problem.message, chat.problem.param);
    const { model, adapter } = await this.#inference.modelOf(caller, chat.value.model, 'chat');
    const work = adapter === null ? chat.value.work : { ...chat.value.work, adapter };
    warnIgnored(response, chat.value.ignored);
    const steps = this.#inference.run(
      {
        caller,
        request,
        endpoint: '/v1/chat/completions',
        requestId,
        model,
        work,
        metadata: chat.value.metadata,
      },
      untilGone(response),
    );
    const head = { id: requestId, created: Math.floor(Date.now() / 1_000), model: chat.value.model };
    if (!chat.value.stream) return answerAtOnce(response, head, steps);
    const stream = new ChatStream(response, head, chat.value, () =>
      this.#metrics.firstByteSeconds.observe((performance.now() - startedMs) / 1_000),
    );
    await stream.run(steps, request);
  }
}

async function answerAtOnce(response: Response, head: AnswerHead, steps: AsyncGenerator<StreamStep>): Promise<void> {
  for await (const step of steps) {
    if (step.type !== 'done') continue;
    response
      .status(200)
      .json(chatCompletionBody({ ...head, id: step.jobId, fingerprint: fingerprint(step.by) }, chatOutput(step)));
  }
}

/** One streamed answer: role first, text as it comes, the reason it ended, the usage if asked for, `[DONE]`. */
class ChatStream {
  readonly #response: Response;
  readonly #events: EventStream;
  readonly #chat: ChatRequest;
  readonly #onFirst: () => void;
  #head: AnswerHead;
  #begun = false;

  constructor(response: Response, head: AnswerHead, chat: ChatRequest, onFirst: () => void) {
    this.#response = response;
    this.#events = new EventStream(response);
    this.#head = head;
    this.#chat = chat;
    this.#onFirst = onFirst;
  }

  async run(steps: AsyncGenerator<StreamStep>, request: ApiRequest): Promise<void> {
    const patience = setTimeout(() => this.#events.open(), HEADERS_AFTER_MS);
    try {
      for await (const step of steps) {
        if (step.type === 'taken') continue;
        clearTimeout(patience);
        if (step.type === 'delta') await this.#delta(step.by, step.text);
        else await this.#finish(step);
      }
    } catch (error) {
      if (!this.#events.isOpen) throw error;
      // The status is sent: the error travels as the stream's last event.
      if (!this.#response.destroyed) await this.#events.send(apiErrorOf(error, request).body());
      this.#response.end();
    } finally {
      clearTimeout(patience);
      this.#events.close();
    }
  }

  async #delta(by: RanBy, text: string): Promise<void> {
    await this.#begin(by, this.#head.id);
    await this.#chunk({ delta: { content: text }, finish: null });
  }

  async #begin(by: RanBy, id: string): Promise<void> {
    if (this.#begun) return;
    this.#begun = true;
    this.#onFirst();
    this.#head = { ...this.#head, id, fingerprint: fingerprint(by) };
    await this.#chunk({ delta: { role: 'assistant', content: '' }, finish: null });
  }

  async #finish(step: Extract<StreamStep, { type: 'done' }>): Promise<void> {
    const output = chatOutput(step);
    const isWhole = !this.#begun;
    await this.#begin(step.by, step.jobId);
    // A repeated or very short answer comes in one piece.
    if (isWhole && output.text !== '') await this.#chunk({ delta: { content: output.text }, finish: null });
    await this.#chunk({ delta: {}, finish: output.finish, logprobs: output.logprobs });
    if (this.#chat.includeUsage)
      await this.#events.send(chatChunkBody(this.#head, null, usageBody(output.unitsIn, output.unitsOut)));
    await this.#events.end();
  }

  async #chunk(choice: Parameters<typeof chatChunkBody>[1]): Promise<void> {
    await this.#events.send(chatChunkBody(this.#head, choice, this.#chat.includeUsage ? null : undefined));
  }
}

function fingerprint(by: RanBy): string {
  return fingerprintOf(by.digest, by.engineClass);
}

function chatOutput(step: Extract<StreamStep, { type: 'done' }>): ChatOutput {
  if (step.output.kind === 'chat') return step.output;
  throw refusedByEngine(step.output);
}

/** The engine itself refused the request (too long for the context, say): the requester's to mend, and free. */
export function refusedByEngine(output: {
  readonly kind: string;
  readonly code?: string;
  readonly message?: string;
}): ApiError {
  return new ApiError({
    status: 400,
    type: 'invalid_request_error',
    code: output.code ?? 'wrong_answer',
    message: output.message ?? `The engine answered with ${output.kind}.`,
  });
}
