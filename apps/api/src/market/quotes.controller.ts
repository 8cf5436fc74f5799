import { Body, Controller, HttpCode, Inject, Post, Res } from '@nestjs/common';
import type { Response } from 'express';
import { z } from 'zod';
import {
  FileStore,
  FineTuneStore,
  JobStore,
  ObjectStore,
  finishBody,
  OfferBook,
  QueueDesk,
  quoteFineTune,
  quoteJob,
  TrainableBases,
  type FineTuneQuote,
  type KeyRecord,
  type Quote,
  type QuoteSubject,
} from '@freehold/market';
import {
  holdFor,
  NEWCOMER_ACCEPTED_ROWS,
  rowsToAudit,
  unitsFromJson,
  unitsToJson,
  VERIFY_LEVELS,
  type VerifyLevel,
} from '@freehold/domain';
import { BATCH_ROWS_MAX, formatMoney, invalidRequest, notFound, problemOf, type ListPrices } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import { TakesJson } from '../http/json-body.ts';
import { untilGone } from '../openai/inference.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';

/** Forecasts count in millionths of the smallest token unit. */
const MICRO = 1_000_000;
const Level = z.enum(VERIFY_LEVELS).default('spot');
const QuoteRequest = z.union([
  z.strictObject({ input_file_id: z.string().min(1).max(64), verify: Level }),
  z.strictObject({
    model: z.string().min(1).max(128),
    rows: z.int().min(1).max(BATCH_ROWS_MAX).default(1),
    input_tokens: z.int().min(0).max(1_000_000),
    output_tokens: z.int().min(0).max(1_000_000).default(0),
    verify: Level,
  }),
]);

@Controller('market/v1/quotes')
@Needs('market')
export class QuotesController {
  readonly #files: FileStore;
  readonly #jobs: JobStore;
  readonly #objects: ObjectStore;
  readonly #offers: OfferBook;
  readonly #bases: TrainableBases;
  readonly #fineTunes: FineTuneStore;
  readonly #queue: QueueDesk;
  readonly #settings: ApiSettings;

  constructor(
    files: FileStore,
    jobs: JobStore,
    objects: ObjectStore,
    offers: OfferBook,
    bases: TrainableBases,
    fineTunes: FineTuneStore,
    queue: QueueDesk,
    @Inject(API_SETTINGS) settings: ApiSettings,
  ) {
    this.#queue = queue;
    this.#bases = bases;
    this.#fineTunes = fineTunes;
    this.#files = files;
    this.#jobs = jobs;
    this.#objects = objects;
    this.#offers = offers;
    this.#settings = settings;
  }

  /**
   * What a job would cost: an uploaded file, so many rows of so many tokens, or a fine-tune as it would be submitted. Promises
   * nothing but the cap.
   */
  @Post()
  @TakesJson()
  @HttpCode(200)
  async quote(
    @Caller() caller: KeyRecord,
    @Body() body: unknown,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Record<string, unknown>> {
    return isFineTune(body) ? this.#fineTune(caller, body, untilGone(response)) : this.#rows(caller, body);
  }

  async #fineTune(caller: KeyRecord, body: object, gone: AbortSignal): Promise<Record<string, unknown>> {
    const ports = {
      files: this.#files,
      objects: this.#objects,
      offers: this.#offers,
      bases: this.#bases,
      catalogue: this.#settings.catalogue,
      holdsModel: this.#settings.holdsModel,
    };
    const signal = AbortSignal.any([gone, AbortSignal.timeout(COUNT_MS_MAX)]);
    const quote = await quoteFineTune(ports, { orgId: caller.orgId, body, nowMs: Date.now() }, signal);
    return { ...fineTuneBody(quote), trust: caller.trust };
  }

  async #rows(caller: KeyRecord, body: unknown): Promise<Record<string, unknown>> {
    const parsed = QuoteRequest.safeParse(body);
    if (!parsed.success) {
      const { code, message } = problemOf(parsed.error);
      throw invalidRequest(
        code,
        `${message} Expected { input_file_id }, { model, rows, input_tokens, output_tokens }, or { training_file, … } as a fine-tune is submitted.`,
      );
    }
    const level = parsed.data.verify;
    const subject = await this.#subjectOf(caller, parsed.data);
    const quote = await quoteJob(
      {
        jobs: this.#jobs,
        objects: this.#objects,
        offers: this.#offers,
        catalogue: this.#settings.catalogue,
        holdsModel: this.#settings.holdsModel,
        fineTunes: this.#fineTunes,
      },
      caller.orgId,
      subject,
      level,
    );
    if (quote === null)
      throw invalidRequest(
        'model_not_found',
        'No row of this names a model that is served here: GET /v1/models lists those that are.',
        'model',
      );
    const { posted } = quote;
    const now = { model: quote.served, rows: quote.rows, deadlineInMs: WINDOW_MS, priority: 0 };
    const { rowsAhead, pace, finish } = await this.#queue.outlook(caller.orgId, now);
    return {
      object: 'quote',
      model: quote.model,
      kind: quote.kind,
      rows: quote.rows,
      refused_rows: quote.refusedRows,
      nodes_offering: quote.nodesOffering,
      posted_rates:
        posted === null ? null : { lowest: unitsToJson(posted.lowest), highest: unitsToJson(posted.highest) },
      expected: expectedOf(quote),
      queue: { rows_ahead: rowsAhead, nodes: pace.nodes, rows_per_second: pace.rowsPerSecond },
      expected_finish: finish === null ? null : finishBody(finish),
      on_time_probability: quote.forecast === null ? null : Math.round(quote.forecast.onTime * 1_000) / 1_000,
      hosted_list_prices: comparison(this.#settings.listPrices, quote),
      cap: quote.cap === null ? null : formatMoney(quote.cap),
      smallest_max_cost: quote.smallestCap === null ? null : formatMoney(quote.smallestCap),
      audit: auditOf(level, quote.auditors),
      trust: caller.trust,
    };
  }

  async #subjectOf(caller: KeyRecord, asked: z.infer<typeof QuoteRequest>): Promise<QuoteSubject> {
    if (!('input_file_id' in asked))
      return {
        by: 'rows',
        model: asked.model,
        rows: asked.rows,
        inputTokens: asked.input_tokens,
        outputTokens: asked.output_tokens,
      };
    const file = await this.#files.get(caller.orgId, asked.input_file_id);
    if (file === null) throw notFound('file', asked.input_file_id);
    return { by: 'file', fileId: file.id };
  }
}

/** The window that a batch has when it names none. */
const WINDOW_MS = 86_400_000;
/** A hundred MiB of examples are counted in less. */
const COUNT_MS_MAX = 120_000;

function isFineTune(body: unknown): body is object {
  return typeof body === 'object' && body !== null && 'training_file' in body;
}

function fineTuneBody(quote: FineTuneQuote): Record<string, unknown> {
  const { posted, expected } = quote;
  return {
    object: 'quote',
    model: quote.base,
    kind: 'fine-tune',
    examples: quote.examples,
    tokens: quote.tokens,
    n_epochs: quote.epochs,
    batch_size: quote.examplesPerStep,
    steps: quote.steps,
    segments: quote.segments,
    training_tokens: Number(quote.trainingTokens),
    nodes_offering: quote.nodesOffering,
    posted_rates: posted === null ? null : { lowest: unitsToJson(posted.lowest), highest: unitsToJson(posted.highest) },
    expected:
      expected === null
        ? null
        : {
            low: formatMoney(expected.low),
            high: formatMoney(expected.high),
            basis: 'posted prices and the tokens of the file, counted; not yet past jobs',
          },
    cap: formatMoney(quote.cap),
    smallest_max_cost: quote.smallestCap === null ? null : formatMoney(quote.smallestCap),
    audit: { segments: quote.segmentsAudited, auditors: quote.auditors, paid_by: 'the market fee' },
  };
}

/** Where four of five such jobs cost: by jobs of the past, once there are enough; until then by posted prices alone. */
function expectedOf({ forecast, expected }: Quote): Record<string, unknown> | null {
  if (forecast !== null)
    return {
      low: formatMoney(BigInt(Math.floor(forecast.low / MICRO))),
      high: formatMoney(BigInt(Math.ceil(forecast.high / MICRO))),
      basis: `${forecast.sampleSize} finished batches of this model, by the row: four of five such batches cost between these`,
    };
  if (expected === null) return null;
  return {
    low: formatMoney(expected.low),
    high: formatMoney(expected.high),
    basis: 'posted prices and the size of the input: there are too few finished batches of this model',
  };
}

/** The same work at the list prices of hosted APIs of its kind: other models, in dollars, read on the day it says. */
function comparison({ prices }: ListPrices, { kind, likely }: Quote): Record<string, unknown>[] {
  return prices
    .filter((price) => price.kind === kind)
    .map((price) => {
      const rates = unitsFromJson(price.microUsdPerMillion);
      return {
        provider: price.provider,
        model: price.model,
        currency: 'USD',
        low: formatMoney(holdFor(likely.low, rates)),
        high: formatMoney(holdFor(likely.high, rates)),
        as_of: price.asOf,
        source: price.source,
        basis: 'list prices of another model of the same kind, without batch discounts',
      };
    });
}

/** What is checked at a level, by how many, and out of whose money. */
function auditOf(level: VerifyLevel, auditors: number): Record<string, unknown> {
  return {
    level,
    // Of a hundred rows of a node that nobody could know for longer.
    share_floor_percent: rowsToAudit(level, 100, { rowsAccepted: Number.MAX_SAFE_INTEGER }),
    first_rows_of_a_node: level === 'off' ? 0 : NEWCOMER_ACCEPTED_ROWS,
    auditors,
    paid_by: 'the market fee',
  };
}
