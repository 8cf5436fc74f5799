import { addUsage, holdFor, mostOfOneHolder, pricesOf, type Rates, type Usage } from '@freehold/domain';
import {
  formatMoney,
  invalidRequest,
  LINE_BYTES_MAX,
  parseBatchLine,
  worstUsage,
  type BatchTerms,
  type Work,
} from '@freehold/protocol';
import { inputLines } from './input-lines.ts';
import { inSlices, inSteps } from './in-slices.ts';
import { knowingModel, offersInTime, type KnownModel, type OfferedModel, type ServedKind } from './known-models.ts';
import { pricedAs, pricesFor } from './max-cost.ts';
import { whereaboutsOf } from './may-hold.ts';
import { mayServe, type ServeTerms } from './may-serve.ts';
import { memoryListed } from './model-facts.ts';
import { namedModel, type NamedModel } from './named-model.ts';
import type { FineTuneStore } from './ports/fine-tune-store.ts';
import { fileObject } from './ports/file-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import { isHere, mayReturn, type OfferBook } from './ports/offer-book.ts';
import type { Shards } from './ports/shards.ts';
import type { QueueDesk, QueueOutlook } from './queue-desk.ts';
import { refuseImpossible, type RefuseImpossiblePorts } from './refuse-impossible.ts';
import { tooFewRows } from './too-few-rows.ts';
import { notVerifiable, verifyingBy, type HoldsModel } from './verifiable-by.ts';

/** Bytes per token of ordinary English under common tokenizers lie in this range; with bytes as tokens it is 1. */
const BYTES_PER_TOKEN = { few: 2n, usual: 3n, many: 5n } as const;
/** Answers rarely use all of max_tokens: the low end of the interval takes a tenth. */
const SHORT_ANSWER_DIVISOR = 10n;

export interface QuoteJobPorts extends RefuseImpossiblePorts {
  readonly objects: ObjectStore;
  readonly offers: OfferBook;
  readonly holdsModel: HoldsModel;
  readonly fineTunes: Pick<FineTuneStore, 'model'>;
  readonly queue: Pick<QueueDesk, 'outlook'>;
  readonly shards: Pick<Shards, 'held'>;
  /** In all. */
  readonly shardCount: number;
}

/** What is to be priced: an uploaded input file, or so many rows of a kind. */
export type QuoteSubject =
  | { readonly by: 'file'; readonly fileId: string }
  | {
      readonly by: 'rows';
      readonly model: string;
      readonly rows: number;
      readonly inputTokens: number;
      readonly outputTokens: number;
    };

export interface Quote {
  readonly model: string;
  /** What nodes serve: the model, or the base under a fine-tune. */
  readonly served: string;
  readonly kind: ServedKind;
  readonly rows: number;
  /** Lines of the file that validation would refuse; they are not in the price. */
  readonly refusedRows: number;
  /** Nodes that are here and may run it. */
  readonly nodesOffering: number;
  /** Others that may, are not here now, and were before so short a time that it may be over after they come back. */
  readonly nodesAway: number;
  readonly posted: { readonly lowest: Rates; readonly highest: Rates } | null;
  readonly expected: { readonly low: bigint; readonly high: bigint } | null;
  /** What the work would count as, between short and long answers. */
  readonly likely: { readonly low: Usage; readonly high: Usage };
  /** What stands before it, when it will be over, and what such work cost before. */
  readonly outlook: QueueOutlook;
  /** The hold. */
  readonly cap: bigint | null;
  /** The smallest metadata.max_cost that would be accepted. */
  readonly smallestCap: bigint | null;
  /** Nodes that it begins on at once, and live nodes of one scheduler that may serve it, of the one that has most; null: it begins on any. */
  readonly gang: { readonly asked: number; readonly live: number } | null;
  /** Operators that can run its rows again. */
  readonly auditors: number;
}

interface Measured {
  readonly model: string;
  /** What its first row asks for. */
  readonly kind: ServedKind;
  readonly rows: number;
  readonly refusedRows: number;
  readonly worst: Usage;
  readonly low: Usage;
  readonly high: Usage;
  /** The most that a file of it would count as: of tokens that are only named, nobody knows the bytes. */
  readonly counted: Usage;
}

/**
 * What a batch would cost and when it would be over, submitted now with these terms. Null when its model is not known.
 *
 * @throws {ApiError} When nobody could verify it at the level asked for, its own cap does not cover it, it has fewer rows than it asks nodes
 * for, or no node could ever run it: a price for it would be a promise nobody keeps.
 */
export async function quoteJob(
  ports: QuoteJobPorts,
  orgId: string,
  subject: QuoteSubject,
  { terms, deadlineInMs, metadata, completionWindow }: BatchTerms,
): Promise<Quote | null> {
  const offers = await ports.offers.offers();
  const find = (of: string, asked: ServedKind | null): Promise<NamedModel | null> =>
    namedModel(ports.fineTunes, orgId, of, (known) => inSteps(knowingModel(known, ports.catalogue, offers, asked)));
  const measured = subject.by === 'file' ? await measureFile(ports, subject.fileId, find) : null;
  const name = subject.by === 'file' ? measured?.model : subject.model;
  const named = name === undefined ? null : await find(name, kindAsked(subject, measured));
  if (named === null) return null;
  const { model } = named;
  const { region, priority, needs } = terms;
  const check = { level: terms.verify, model: model.name, ...whereaboutsOf({ region, metadata, poolId: null }) };
  const verifiable = await inSteps(verifyingBy(check, offersInTime(model, deadlineInMs), ports.holdsModel));
  const work = measured ?? measureRows(model.kind, subject as Extract<QuoteSubject, { by: 'rows' }>);
  const few = tooFewRows(metadata, work.rows);
  if (few !== null) throw invalidRequest(few.code, few.message, few.param);
  const priced = pricedAs(named.base, work.worst, terms.maxCost, deadlineInMs);
  const wearsAdapter = named.tuned !== null;
  const prices = await inSteps(pricesFor(priced, region, needs, wearsAdapter));
  const cap = prices.cap(terms.maxCost);
  if (cap.ok) {
    const endpoint = model.kind === 'chat' ? '/v1/chat/completions' : '/v1/embeddings';
    const plan = { model: model.name, tuned: named.tuned, rateCaps: cap.rateCaps };
    const job = { kind: 'batch', endpoint, region, verify: terms.verify, metadata, plan } as const;
    await refuseImpossible(ports, offers, { ...job, windowMs: deadlineInMs, completionWindow, priced });
  }
  // After that: where nobody could run it, no level of verification helps.
  if (!verifiable.possible) throw notVerifiable(verifiable);
  if (!cap.ok && cap.why === 'cap-too-low')
    throw invalidRequest(
      'cap_too_low',
      `metadata.max_cost ${formatMoney(terms.maxCost ?? 0n)} does not cover the worst case of these ${work.rows} rows: ${formatMoney(cap.needed)} would do.`,
      'metadata.max_cost',
    );
  const serve = { region, rateCaps: cap.ok ? cap.rateCaps : null, wearsAdapter, needs };
  const { here, away } = await whoMay(ports, model, serve, deadlineInMs);
  const rates = here.map((one) => one.rates);
  const posted = (await inSteps(pricesOf(work.worst, rates, null))).ends;
  const atCeiling = model.ceiling === null ? null : { lowest: model.ceiling, highest: model.ceiling };
  const ends = posted ?? atCeiling ?? prices.ends;
  const { counted } = await inSteps(pricesFor({ ...priced, worst: work.counted }, region, needs, wearsAdapter));
  const intended = { model: model.name, rows: work.rows, counted, deadlineInMs, priority, ...serve };
  const outlook = await ports.queue.outlook(orgId, intended);
  const gang = terms.gang === null ? null : { asked: terms.gang, live: await liveAtOnce(ports, outlook) };
  return {
    model: name ?? model.name,
    served: model.name,
    kind: model.kind,
    rows: work.rows,
    refusedRows: work.refusedRows,
    nodesOffering: nodesOf(here),
    nodesAway: nodesOf(away),
    posted,
    expected: ends === null ? null : { low: holdFor(work.low, ends.lowest), high: holdFor(work.high, ends.highest) },
    outlook: { ...outlook, ...(gang === null || gang.live >= gang.asked ? {} : { finish: null, onTime: null }) },
    gang,
    likely: { low: work.low, high: work.high },
    cap: cap.ok ? cap.cap : null,
    smallestCap: prices.least,
    auditors: (await inSteps(verifyingBy(check, offers.filter(isHere), ports.holdsModel))).auditors,
  };
}

/** Rows that are only counted say what they are by what they answer; those that answer nothing may be either. */
function kindAsked(subject: QuoteSubject, measured: Measured | null): ServedKind | null {
  if (measured !== null) return measured.kind;
  return subject.by === 'rows' && subject.outputTokens > 0 ? 'chat' : null;
}

/** Nobody's record is looked at: of a node that has run the model the quote may know no more than what it offers. */
async function whoMay(
  { catalogue }: Pick<QuoteJobPorts, 'catalogue'>,
  model: KnownModel,
  serve: ServeTerms,
  withinMs: number,
): Promise<{ readonly here: readonly OfferedModel[]; readonly away: readonly OfferedModel[] }> {
  const known = { reputation: 1, hasRun: false, listed: memoryListed(catalogue) };
  const able = async (of: readonly OfferedModel[]): Promise<readonly OfferedModel[]> => {
    const may = await inSlices(of, (one) => mayServe(serve, one.offer, one.model, known));
    return of.filter((_, at) => may[at] === true);
  };
  return {
    here: await able(model.offered.filter(({ offer }) => isHere(offer))),
    away: await able(model.away.filter(({ offer }) => mayReturn(offer, withinMs))),
  };
}

function nodesOf(offered: readonly OfferedModel[]): number {
  return new Set(offered.map(({ offer }) => offer.node)).size;
}

/** A batch that begins on several nodes begins on those of one scheduler. */
async function liveAtOnce(
  { shards, shardCount }: Pick<QuoteJobPorts, 'shards' | 'shardCount'>,
  { pace }: QueueOutlook,
): Promise<number> {
  return mostOfOneHolder(pace.nodeIds, await shards.held(), shardCount);
}

async function measureFile(
  ports: QuoteJobPorts,
  fileId: string,
  find: (name: string, asked: ServedKind) => Promise<NamedModel | null>,
): Promise<Measured | null> {
  let context: number | null = null;
  let first: Pick<Measured, 'model' | 'kind'> | null = null;
  const sum = { rows: 0, refusedRows: 0, worst: {} as Usage, low: {} as Usage, high: {} as Usage };
  for await (const line of inputLines(ports.objects.read(fileObject(fileId)), LINE_BYTES_MAX)) {
    const parsed = line.text === null ? null : parseBatchLine(line.text, null);
    if (parsed === null || !parsed.ok || (first !== null && parsed.value.model !== first.model)) {
      sum.refusedRows += 1;
      continue;
    }
    const { work, model } = parsed.value;
    if (first === null) {
      first = { model, kind: work.kind };
      context = (await find(model, work.kind))?.model.contextTokens ?? null;
    }
    const worst = worstUsage(work, context);
    sum.rows += 1;
    sum.worst = addUsage(sum.worst, worst);
    sum.low = addUsage(sum.low, likelyUsage(work, worst, BYTES_PER_TOKEN.many, SHORT_ANSWER_DIVISOR));
    sum.high = addUsage(sum.high, likelyUsage(work, worst, BYTES_PER_TOKEN.few, 1n));
  }
  return first === null ? null : { ...first, ...sum, counted: sum.worst };
}

function likelyUsage(work: Work, worst: Usage, bytesPerToken: bigint, answerDivisor: bigint): Usage {
  const perToken = (units: bigint | undefined): bigint => ((units ?? 0n) + bytesPerToken - 1n) / bytesPerToken;
  if (work.kind === 'embedding') return { embeddingToken: perToken(worst.embeddingToken) };
  return {
    inputToken: perToken(worst.inputToken),
    outputToken: ((worst.outputToken ?? 0n) + answerDivisor - 1n) / answerDivisor,
  };
}

function measureRows(kind: ServedKind, subject: Extract<QuoteSubject, { by: 'rows' }>): Measured {
  const rows = BigInt(subject.rows);
  const input = rows * BigInt(subject.inputTokens);
  const output = rows * BigInt(subject.outputTokens);
  const worst: Usage = kind === 'chat' ? { inputToken: input, outputToken: output } : { embeddingToken: input };
  const low: Usage =
    kind === 'chat'
      ? { inputToken: input, outputToken: (output + SHORT_ANSWER_DIVISOR - 1n) / SHORT_ANSWER_DIVISOR }
      : worst;
  const bytes = input * BYTES_PER_TOKEN.usual;
  const counted: Usage = kind === 'chat' ? { inputToken: bytes, outputToken: output } : { embeddingToken: bytes };
  return { model: subject.model, kind, rows: subject.rows, refusedRows: 0, worst, low, high: worst, counted };
}
