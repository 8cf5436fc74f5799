import { Body, Controller, Post, Req, Res } from '@nestjs/common';
import type { Response } from 'express';
import { dimensionsMessage, type KeyRecord } from '@freehold/market';
import { embeddingListBody, invalidRequest, normaliseEmbedding } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import type { ApiRequest } from '../http/api-request.ts';
import { TakesJson } from '../http/json-body.ts';
import { Stores } from '../http/room.guard.ts';
import { refusedByEngine } from './chat.controller.ts';
import { Inference, untilGone, warnIgnored } from './inference.ts';

@Controller('v1/embeddings')
@Needs('inference')
export class EmbeddingsController {
  readonly #inference: Inference;

  constructor(inference: Inference) {
    this.#inference = inference;
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
    const parsed = normaliseEmbedding(body);
    if (!parsed.ok) throw invalidRequest(parsed.problem.code, parsed.problem.message, parsed.problem.param);
    const { work, encoding, dimensions, metadata, ignored } = parsed.value;
    const model = await this.#inference.model(parsed.value.model, 'embedding');
    if (dimensions !== null && dimensions !== model.listed?.dimensions)
      throw invalidRequest('unsupported_value', dimensionsMessage(model), 'dimensions');
    warnIgnored(response, ignored);
    const asked = {
      caller,
      request,
      endpoint: '/v1/embeddings',
      requestId: this.#inference.newId('embd'),
      model,
      work,
      metadata,
    } as const;
    for await (const step of this.#inference.run(asked, untilGone(response))) {
      if (step.type !== 'done') continue;
      if (step.output.kind !== 'embedding') throw refusedByEngine(step.output);
      response.status(200).json(embeddingListBody(model.name, step.output, encoding));
    }
  }
}
