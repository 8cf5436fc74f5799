import { Body, Controller, HttpCode, Inject, Post, Res } from '@nestjs/common';
import type { Response } from 'express';
import {
  FileStore,
  FineTuneStore,
  LeaseStore,
  ObjectStore,
  finishBody,
  OfferBook,
  ProviderLink,
  QueueDesk,
  quoteFineTune,
  quoteJob,
  Shards,
  TrainableBases,
  type FineTuneQuote,
  type KeyRecord,
  type Quote,
  type QuoteSubject,
} from '@freehold/market';
import {
  holdFor,
  NEWCOMER_ACCEPTED_ROWS,
  RESCORE_PERCENT,
  rowsToAudit,
  unitsFromJson,
  unitsToJson,
} from '@freehold/domain';
import { formatMoney, invalidRequest, notFound, type BatchTerms, type ListPrices } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import { TakesJson } from '../http/json-body.ts';
import { untilGone } from '../openai/inference.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';
import { parseQuoteRequest, type QuoteRequest } from './quote-request.ts';

@Controller('market/v1/quotes')
@Needs('market')
export class QuotesController {
  readonly #files: FileStore;
  readonly #objects: ObjectStore;
  readonly #offers: OfferBook;
  readonly #bases: TrainableBases;
  readonly #fineTunes: FineTuneStore;
  readonly #queue: QueueDesk;
  readonly #leases: LeaseStore;
  readonly #link: ProviderLink;
  readonly #shards: Shards;
  readonly #settings: ApiSettings;

  constructor(
    files: FileStore,
    objects: ObjectStore,
    offers: OfferBook,
    bases: TrainableBases,
    fineTunes: FineTuneStore,
    queue: QueueDesk,
    leases: LeaseStore,
    link: ProviderLink,
    shards: Shards,
    @Inject(API_SETTINGS) settings: ApiSettings,
  ) {
    this.#queue = queue;
    this.#leases = leases;
    this.#link = link;
    this.#shards = shards;
    this.#bases = bases;
    this.#fineTunes = fineTunes;
    this.#files = files;
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
      leases: this.#leases,
      link: this.#link,
    };
    const signal = AbortSignal.any([gone, AbortSignal.timeout(COUNT_MS_MAX)]);
    const quote = await quoteFineTune(ports, { orgId: caller.orgId, body, nowMs: Date.now() }, signal);
    return { ...fineTuneBody(quote), trust: caller.trust };
  }

  async #rows(caller: KeyRecord, body: unknown): Promise<Record<string, unknown>> {
    const { asked, terms } = parseQuoteRequest(body);
    const subject = await this.#subjectOf(caller, asked);
    const quote = await quoteJob(
      {
        queue: this.#queue,
        objects: this.#objects,
        offers: this.#offers,
        catalogue: this.#settings.catalogue,
        holdsModel: this.#settings.holdsModel,
        fineTunes: this.#fineTunes,
        leases: this.#leases,
        link: this.#link,
        shards: this.#shards,
        shardCount: this.#settings.shards,
      },
      caller.orgId,
      subject,
      terms,
    );
    if (quote === null)
      throw invalidRequest(
        'model_not_found',
        'No row of this names a model that is served here: GET /v1/models lists those that are.',
        'model',
      );
    const { posted } = quote;
    const { rowsAhead, pace, finish, onTime } = quote.outlook;
    return {
      object: 'quote',
      model: quote.model,
      kind: quote.kind,
      rows: quote.rows,
      refused_rows: quote.refusedRows,
      nodes_offering: quote.nodesOffering,
      nodes_away: quote.nodesAway,
      posted_rates:
        posted === null ? null : { lowest: unitsToJson(posted.lowest), highest: unitsToJson(posted.highest) },
      expected: expectedOf(quote),
      terms: termsBody(terms),
      queue: { rows_ahead: rowsAhead, nodes: pace.nodes, rows_per_second: pace.rowsPerSecond },
      nodes_at_once: gangBody(quote),
      expected_finish: finish === null ? null : finishBody(finish),
      on_time_probability: onTime === null ? null : Math.round(onTime * 1_000) / 1_000,
      hosted_list_prices: comparison(this.#settings.listPrices, quote),
      cap: quote.cap === null ? null : formatMoney(quote.cap),
      smallest_max_cost: quote.smallestCap === null ? null : formatMoney(quote.smallestCap),
      audit: auditOf(terms, quote),
      trust: caller.trust,
    };
  }

  async #subjectOf(caller: KeyRecord, asked: QuoteRequest): Promise<QuoteSubject> {
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
    nodes_away: quote.nodesAway,
    posted_rates: posted === null ? null : { lowest: unitsToJson(posted.lowest), highest: unitsToJson(posted.highest) },
    expected:
      expected === null
        ? null
        : {
            low: formatMoney(expected.low),
            high: formatMoney(expected.high),
            basis: `${posted === null ? NOBODY_HERE : 'posted prices'} and the tokens of the file, counted; not yet past jobs`,
          },
    cap: formatMoney(quote.cap),
    smallest_max_cost: quote.smallestCap === null ? null : formatMoney(quote.smallestCap),
    audit: { segments: quote.segmentsAudited, auditors: quote.auditors, paid_by: 'the market fee' },
  };
}

/** What the quote is for: as a batch that is submitted with the same window and metadata. */
function termsBody({ completionWindow, deadlineInMs, terms }: BatchTerms): Record<string, unknown> {
  return {
    completion_window: completionWindow,
    deadline_in_s: Math.floor(deadlineInMs / 1_000),
    region: terms.region,
    priority: terms.priority,
    max_cost: terms.maxCost === null ? null : formatMoney(terms.maxCost),
  };
}

/** Whether it could begin now, were every node idle. */
function gangBody({ gang }: Quote): Record<string, unknown> | null {
  if (gang === null) return null;
  const { asked, live } = gang;
  const missing = `It begins when ${asked} nodes of one scheduler are free for it at once, and of no scheduler more than ${live} that may serve it are connected: it waits for others to come.`;
  return { asked, live, ...(live < asked ? { summary: missing } : {}) };
}

const NOBODY_HERE =
  "the catalogue's ceiling, or what nodes ask that are away or may not run it (none that may run it is here),";

interface Interval {
  readonly low: bigint;
  readonly high: bigint;
  readonly basis: string;
}

/** What four of five such batches cost: by those of the past, once there are enough; until then by posted prices alone. */
function intervalOf({ outlook, expected, cap, posted }: Quote): Interval | null {
  // Nobody is ever charged more than the cap.
  const within = (amount: bigint): bigint => (cap === null || amount < cap ? amount : cap);
  const { cost } = outlook;
  if (cost !== null)
    return {
      low: within(BigInt(Math.floor(cost.low))),
      high: within(BigInt(Math.ceil(cost.high))),
      basis: `${cost.sampleSize} finished batches of this model, by what they cost of what they could have counted as: four of five such batches cost between these`,
    };
  if (expected === null) return null;
  return {
    low: within(expected.low),
    high: within(expected.high),
    basis: `${posted === null ? NOBODY_HERE : 'posted prices'} and the size of the input: there are too few finished batches of this model`,
  };
}

function expectedOf(quote: Quote): Record<string, unknown> | null {
  const interval = intervalOf(quote);
  return interval === null ? null : { ...interval, low: formatMoney(interval.low), high: formatMoney(interval.high) };
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

/** What is checked at a level, by how many, what that costs, and out of whose money. */
function auditOf({ terms: { verify: level } }: BatchTerms, quote: Quote): Record<string, unknown> {
  // Of a hundred rows of a node that nobody could know for longer.
  const sharePercent = rowsToAudit(level, 100, { rowsKnown: Number.MAX_SAFE_INTEGER });
  const interval = intervalOf(quote);
  const percent = RESCORE_PERCENT[quote.kind === 'embedding' ? 'embedding' : 'text'] * BigInt(sharePercent);
  const costOf = (amount: bigint): string => formatMoney((amount * percent) / 10_000n);
  return {
    level,
    share_floor_percent: sharePercent,
    first_rows_of_a_node: level === 'off' ? 0 : NEWCOMER_ACCEPTED_ROWS,
    auditors: quote.auditors,
    // At that share, of nodes that are no newcomers: what the auditors are due, and nothing of it beside the charge.
    cost: interval === null ? null : { low: costOf(interval.low), high: costOf(interval.high), beside_the_charge: '0' },
    paid_by: 'the market fee',
  };
}
