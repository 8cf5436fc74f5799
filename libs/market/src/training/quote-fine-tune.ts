import { holdFor, SEGMENTS_PER_LEASE_MAX, segmentsToAudit, type Cap, type Rates } from '@freehold/domain';
import {
  ApiError,
  FINE_TUNE_ENDPOINT,
  formatMoney,
  invalidRequest,
  parseFineTuningRequest,
  segmentsOf,
  type FineTuningRequest,
} from '@freehold/protocol';
import { trainersOf } from '../known-models.ts';
import { inSteps } from '../in-slices.ts';
import { pricedAsTraining, pricesFor } from '../max-cost.ts';
import { whereaboutsOf } from '../may-hold.ts';
import { fileObject, type FileStore } from '../ports/file-store.ts';
import type { ObjectStore } from '../ports/object-store.ts';
import { isHere, mayReturn, type OfferBook } from '../ports/offer-book.ts';
import { TrainerError, type PlannedTraining } from '../ports/trainer.ts';
import type { TrainableBase, TrainableBases } from '../ports/trainable-bases.ts';
import { refuseImpossible, type RefuseImpossiblePorts } from '../refuse-impossible.ts';
import { notVerifiable, verifyingBy, type HoldsModel } from '../verifiable-by.ts';
import { meetsNeeds } from '../unmet-need.ts';
import { planFor, plannedTokens, type DecidedPlan, type PlanFacts } from './plan-for.ts';
import { readExamples } from './read-examples.ts';
import { askedOf, refuseUnfitFiles, unknownBase } from './submit-fine-tune.ts';
import { trainerModel } from './trainer-model.ts';

export interface QuoteFineTunePorts extends RefuseImpossiblePorts {
  readonly files: FileStore;
  readonly objects: ObjectStore;
  readonly offers: OfferBook;
  readonly bases: TrainableBases;
  readonly holdsModel: HoldsModel;
}

export interface FineTuneQuote {
  readonly base: string;
  readonly examples: number;
  /** Of one walk through the file, as the coordinator's own trainer counts them. */
  readonly tokens: number;
  readonly epochs: number;
  readonly examplesPerStep: number;
  readonly steps: number;
  readonly segments: number;
  /** Segments that are run again, when no lease is cut. */
  readonly segmentsAudited: number;
  readonly trainingTokens: bigint;
  /** Nodes that are here, and may do what is asked. */
  readonly nodesOffering: number;
  /** Others that offered it, and may be here again before it has to be over. */
  readonly nodesAway: number;
  readonly posted: { readonly lowest: Rates; readonly highest: Rates } | null;
  readonly expected: { readonly low: bigint; readonly high: bigint } | null;
  /** The hold that the job will take. */
  readonly cap: bigint;
  readonly smallestCap: bigint | null;
  readonly auditors: number;
}

/** A job is not submitted yet: nothing of it depends on the seed but the order of its examples. */
const ANY_SEED = 0;

/**
 * What a fine-tune would cost and be, from the body that would submit it: the same reading, plan and cap as validation's.
 *
 * @throws {ApiError} For whatever the job would be refused or fail with.
 */
export async function quoteFineTune(
  ports: QuoteFineTunePorts,
  asker: { readonly orgId: string; readonly body: unknown; readonly nowMs: number },
  signal: AbortSignal,
): Promise<FineTuneQuote> {
  const parsed = parseFineTuningRequest(asker.body, asker.nowMs);
  if (!parsed.ok) throw invalidRequest(parsed.problem.code, parsed.problem.message, parsed.problem.param);
  const request = parsed.value;
  const base = ports.bases.all().find(({ model }) => model === request.model);
  if (base === undefined) throw unknownBase(ports.bases, request.model);
  await refuseUnfitFiles(ports.files, asker.orgId, request);
  const name = trainerModel(base.model);
  const offers = await ports.offers.offers();
  const where = whereaboutsOf({ region: request.terms.region, metadata: request.metadata, poolId: null });
  const check = { level: request.terms.verify, model: name, ...where };
  const inTime = offers.filter((offer) => mayReturn(offer, request.deadlineInMs));
  const verifiable = await inSteps(verifyingBy(check, inTime, ports.holdsModel));
  if (!verifiable.possible && verifiable.workers > 0) throw notVerifiable(verifiable);
  const { decided, counted } = await countedPlan(ports, request, base, signal);
  const usage = { trainingToken: plannedTokens(decided.plan, counted.examples, counted.tokens) };
  const market = { catalogue: ports.catalogue, offers };
  const { maxCost } = request.terms;
  const priced = pricedAsTraining(base.model, market, usage, maxCost, request.deadlineInMs);
  const { ceiling } = priced;
  const { region, needs } = request.terms;
  const prices = await inSteps(pricesFor(priced, region, needs));
  const cap = prices.cap(maxCost);
  if (!cap.ok) throw verifiable.possible ? noCap(cap, base.model, request) : notVerifiable(verifiable);
  const { metadata, terms, deadlineInMs: windowMs } = request;
  const work = { model: name, tuned: null, rateCaps: cap.rateCaps };
  const job = {
    kind: 'fine-tune',
    endpoint: FINE_TUNE_ENDPOINT,
    region: terms.region,
    verify: terms.verify,
    metadata,
  } as const;
  await refuseImpossible(ports, offers, { ...job, plan: work, windowMs, priced });
  if (!verifiable.possible) throw notVerifiable(verifiable);
  const trainers = trainersOf(base.model, inTime).filter(meetsNeeds(region, needs));
  const here = trainers.filter(isHere);
  const atCeiling = ceiling === null ? null : { lowest: ceiling, highest: ceiling };
  const ends = here.length > 0 ? prices.ends : (atCeiling ?? prices.ends);
  const segments = segmentsOf(decided.plan);
  return {
    base: base.model,
    examples: counted.examples,
    tokens: counted.tokens,
    epochs: decided.epochs,
    examplesPerStep: decided.plan.batch.examples,
    steps: decided.plan.steps,
    segments,
    segmentsAudited: auditedOf(segments, request),
    trainingTokens: usage.trainingToken,
    nodesOffering: here.length,
    nodesAway: trainers.length - here.length,
    posted: here.length === 0 ? null : ends,
    expected: ends === null ? null : { low: holdFor(usage, ends.lowest), high: holdFor(usage, ends.highest) },
    cap: cap.cap,
    smallestCap: prices.least,
    auditors: (await inSteps(verifyingBy(check, offers.filter(isHere), ports.holdsModel))).auditors,
  };
}

function auditedOf(segments: number, { terms }: FineTuningRequest): number {
  let audited = 0;
  for (let left = segments; left > 0; left -= SEGMENTS_PER_LEASE_MAX)
    audited += segmentsToAudit(terms.verify, Math.min(left, SEGMENTS_PER_LEASE_MAX));
  return audited;
}

async function countedPlan(
  ports: QuoteFineTunePorts,
  request: FineTuningRequest,
  base: TrainableBase,
  signal: AbortSignal,
): Promise<{ readonly decided: DecidedPlan; readonly counted: PlannedTraining }> {
  const examples = await readExamples(ports.objects, request.trainingFileId, 'training_file');
  const [fault] = examples.faults;
  if (fault !== undefined) throw inLine(fault.code, fault.message, fault.line);
  const asked = askedOf(request, ANY_SEED);
  const facts: Omit<PlanFacts, 'tokens'> = { base, dataSha256: '0'.repeat(64), examples: examples.examples };
  try {
    const { plan } = planFor(asked, { ...facts, tokens: null });
    const counted = await ports.bases.count(plan, ports.objects.read(fileObject(request.trainingFileId)), signal);
    return { decided: planFor(asked, { ...facts, tokens: counted.tokens }), counted };
  } catch (error) {
    if (!(error instanceof TrainerError)) throw error;
    if (!error.retryable) throw inLine(error.code, error.message, error.line ?? null);
    throw new ApiError({
      status: 503,
      type: 'server_error',
      code: 'not_counted',
      message: `The file could not be counted now (${error.message}): ask again in a moment.`,
      retryAfterS: 5,
    });
  }
}

function inLine(code: string, message: string, line: number | null): ApiError {
  return invalidRequest(code, `${line === null ? '' : `Line ${line}: `}${message}`, 'training_file');
}

function noCap(cap: Extract<Cap, { readonly ok: false }>, base: string, { terms }: FineTuningRequest): ApiError {
  if (cap.why === 'no-price')
    return invalidRequest(
      'no_price',
      `Nobody trains '${base}' now, and the catalogue has no ceiling for it: ask again when a node offers it.`,
      'model',
    );
  return invalidRequest(
    'cap_too_low',
    `metadata.max_cost ${formatMoney(terms.maxCost ?? 0n)} does not cover this fine-tune: ${formatMoney(cap.needed)} would do.`,
    'metadata.max_cost',
  );
}
