import {
  addUsage,
  forecastFrom,
  holdFor,
  SAMPLE_MAX,
  type PriceForecast,
  type Rates,
  type Usage,
  type VerifyLevel,
} from '@freehold/domain';
import { LINE_BYTES_MAX, parseBatchLine, worstUsage, type Catalogue, type Work } from '@freehold/protocol';
import { capFor } from './batch-cap.ts';
import { inputLines } from './input-lines.ts';
import { knownModel, type KnownModel } from './known-models.ts';
import { namedModel } from './named-model.ts';
import type { FineTuneStore } from './ports/fine-tune-store.ts';
import { fileObject } from './ports/file-store.ts';
import type { JobStore } from './ports/job-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import type { OfferBook } from './ports/offer-book.ts';
import { notVerifiable, verifiableBy, type HoldsModel } from './verifiable-by.ts';

/** Bytes per token of ordinary English under common tokenizers lie in this range; with bytes as tokens it is 1. */
const BYTES_PER_TOKEN = { few: 2n, many: 5n } as const;
/** Answers rarely use all of max_tokens: the low end of the interval takes a tenth. */
const SHORT_ANSWER_DIVISOR = 10n;
/** The window that a batch has when it names none. */
const WINDOW_MS = 86_400_000;

export interface QuoteJobPorts {
  readonly objects: ObjectStore;
  readonly offers: OfferBook;
  readonly catalogue: Catalogue;
  readonly holdsModel: HoldsModel;
  readonly fineTunes: Pick<FineTuneStore, 'model'>;
  readonly jobs: Pick<JobStore, 'pastBatches'>;
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
  readonly kind: 'chat' | 'embedding';
  readonly rows: number;
  /** Lines of the file that validation would refuse; they are not in the price. */
  readonly refusedRows: number;
  readonly nodesOffering: number;
  readonly posted: { readonly lowest: Rates; readonly highest: Rates } | null;
  readonly expected: { readonly low: bigint; readonly high: bigint } | null;
  /** What the work would count as, between short and long answers. */
  readonly likely: { readonly low: Usage; readonly high: Usage };
  /** From batches of this model that completed, a row as the unit of work; null while there are too few. */
  readonly forecast: PriceForecast | null;
  /** The hold, when the requester names no cap. */
  readonly cap: bigint | null;
  /** The smallest metadata.max_cost that would be accepted. */
  readonly smallestCap: bigint | null;
  /** Operators that can run its rows again. */
  readonly auditors: number;
}

interface Measured {
  readonly model: string;
  readonly rows: number;
  readonly refusedRows: number;
  readonly worst: Usage;
  readonly low: Usage;
  readonly high: Usage;
}

/**
 * Posted prices over what a job would count as. Null when its model is not known.
 *
 * @throws {ApiError} When nobody could verify it at the level asked for: a price for it would be a promise nobody keeps.
 */
export async function quoteJob(
  ports: QuoteJobPorts,
  orgId: string,
  subject: QuoteSubject,
  level: VerifyLevel = 'spot',
  deadlineInMs = WINDOW_MS,
): Promise<Quote | null> {
  const offers = await ports.offers.offers();
  const find = async (of: string): Promise<KnownModel | null> =>
    (await namedModel(ports.fineTunes, orgId, of, (known) => knownModel(known, ports.catalogue, offers)))?.model ??
    null;
  const measured = subject.by === 'file' ? await measureFile(ports, subject.fileId, find) : null;
  const name = subject.by === 'file' ? measured?.model : subject.model;
  const model = name === undefined ? null : await find(name);
  if (model === null) return null;
  const verifiable = verifiableBy(
    { level, model: model.name, region: null },
    model.offered.map(({ offer }) => offer),
    ports.holdsModel,
  );
  if (!verifiable.possible) throw notVerifiable(verifiable);
  const work = measured ?? measureRows(model.kind, subject as Extract<QuoteSubject, { by: 'rows' }>);
  const posted = model.offered.map(({ rates }) => rates);
  const lists = posted.length > 0 ? posted : model.ceiling === null ? [] : [model.ceiling];
  const byCost = [...lists].sort((a, b) => (holdFor(work.worst, a) < holdFor(work.worst, b) ? -1 : 1));
  const lowest = byCost[0];
  const highest = byCost.at(-1);
  const cap = capFor(work.worst, null, posted, model.ceiling);
  return {
    model: name ?? model.name,
    served: model.name,
    kind: model.kind,
    rows: work.rows,
    refusedRows: work.refusedRows,
    nodesOffering: new Set(model.offered.map(({ offer }) => offer.node)).size,
    posted: posted.length === 0 || lowest === undefined || highest === undefined ? null : { lowest, highest },
    expected:
      lowest === undefined || highest === undefined
        ? null
        : { low: holdFor(work.low, lowest), high: holdFor(work.high, highest) },
    forecast: forecastFrom(await ports.jobs.pastBatches(model.name, SAMPLE_MAX), work.rows, deadlineInMs),
    likely: { low: work.low, high: work.high },
    cap: cap.ok ? cap.cap : null,
    smallestCap: lowest === undefined ? null : holdFor(work.worst, lowest),
    auditors: verifiable.auditors,
  };
}

async function measureFile(
  ports: QuoteJobPorts,
  fileId: string,
  find: (name: string) => Promise<KnownModel | null>,
): Promise<Measured | null> {
  let context: number | null = null;
  let modelName: string | null = null;
  const sum = { rows: 0, refusedRows: 0, worst: {} as Usage, low: {} as Usage, high: {} as Usage };
  for await (const line of inputLines(ports.objects.read(fileObject(fileId)), LINE_BYTES_MAX)) {
    const parsed = line.text === null ? null : parseBatchLine(line.text, null);
    if (parsed === null || !parsed.ok || (modelName !== null && parsed.value.model !== modelName)) {
      sum.refusedRows += 1;
      continue;
    }
    if (modelName === null) {
      modelName = parsed.value.model;
      context = (await find(modelName))?.contextTokens ?? null;
    }
    const { work } = parsed.value;
    const worst = worstUsage(work, context);
    sum.rows += 1;
    sum.worst = addUsage(sum.worst, worst);
    sum.low = addUsage(sum.low, likelyUsage(work, worst, BYTES_PER_TOKEN.many, SHORT_ANSWER_DIVISOR));
    sum.high = addUsage(sum.high, likelyUsage(work, worst, BYTES_PER_TOKEN.few, 1n));
  }
  return modelName === null ? null : { model: modelName, ...sum };
}

function likelyUsage(work: Work, worst: Usage, bytesPerToken: bigint, answerDivisor: bigint): Usage {
  const perToken = (units: bigint | undefined): bigint => ((units ?? 0n) + bytesPerToken - 1n) / bytesPerToken;
  if (work.kind === 'embedding') return { embeddingToken: perToken(worst.embeddingToken) };
  return {
    inputToken: perToken(worst.inputToken),
    outputToken: ((worst.outputToken ?? 0n) + answerDivisor - 1n) / answerDivisor,
  };
}

function measureRows(kind: 'chat' | 'embedding', subject: Extract<QuoteSubject, { by: 'rows' }>): Measured {
  const rows = BigInt(subject.rows);
  const input = rows * BigInt(subject.inputTokens);
  const output = rows * BigInt(subject.outputTokens);
  const worst: Usage = kind === 'chat' ? { inputToken: input, outputToken: output } : { embeddingToken: input };
  const low: Usage =
    kind === 'chat'
      ? { inputToken: input, outputToken: (output + SHORT_ANSWER_DIVISOR - 1n) / SHORT_ANSWER_DIVISOR }
      : worst;
  return { model: subject.model, rows: subject.rows, refusedRows: 0, worst, low, high: worst };
}
