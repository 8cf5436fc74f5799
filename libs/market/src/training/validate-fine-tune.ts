import {
  segmentsOf,
  formatMoney,
  FINE_TUNE_ENDPOINT,
  nodeNeedsOf,
  parseMoney,
  type Catalogue,
} from '@freehold/protocol';
import { inSteps } from '../in-slices.ts';
import { pricedAsTraining, pricesFor } from '../max-cost.ts';
import { whereaboutsOf } from '../may-hold.ts';
import { blobName } from '../object-desk.ts';
import type { Blobs } from '../ports/blobs.ts';
import { fileObject } from '../ports/file-store.ts';
import type { FineTuneStore, FineTuneView } from '../ports/fine-tune-store.ts';
import type { BatchFault, JobStore, NewRow } from '../ports/job-store.ts';
import type { ObjectStore } from '../ports/object-store.ts';
import { mayReturn, type OfferBook } from '../ports/offer-book.ts';
import { TrainerError, type PlannedTraining } from '../ports/trainer.ts';
import type { TrainableBase, TrainableBases } from '../ports/trainable-bases.ts';
import { whyImpossible, type RefuseImpossiblePorts } from '../refuse-impossible.ts';
import { NOT_VERIFIABLE, verifyingBy, type HoldsModel } from '../verifiable-by.ts';
import { planFor, plannedTokens, type DecidedPlan } from './plan-for.ts';
import { readExamples } from './read-examples.ts';
import { trainerModel } from './trainer-model.ts';

export interface ValidateFineTunePorts extends RefuseImpossiblePorts {
  readonly jobs: JobStore;
  readonly fineTunes: FineTuneStore;
  readonly objects: ObjectStore;
  readonly blobs: Blobs;
  readonly bases: TrainableBases;
  readonly offers: OfferBook;
  readonly catalogue: Catalogue;
  readonly holdsModel: HoldsModel;
}

type Refused = { readonly ok: false; readonly faults: readonly BatchFault[] };

/**
 * Reads the files, has the coordinator's own trainer count them, and either starts the job (segments as rows, cap, hold) or
 * fails it with what is wrong, line by line. Runs twice harmlessly: the plan follows from the request and the file, and the
 * state moves once.
 */
export async function validateFineTune(
  ports: ValidateFineTunePorts,
  jobId: string,
  signal: AbortSignal,
): Promise<'started' | 'failed' | 'not-validating'> {
  const tune = await ports.fineTunes.find(jobId);
  if (tune === null || tune.job.state !== 'validating' || tune.job.inputFileId === null) return 'not-validating';
  const checked = await checkFiles(ports, tune, tune.job.inputFileId, signal);
  if (!checked.ok) return fail(ports, tune, checked.faults);
  const { decided, counted, base } = checked;
  const isSet = await ports.fineTunes.setPlan(jobId, {
    plan: decided.plan,
    initialState: counted.initialState,
    contextTokens: base.contextTokens,
    checkpointBytesMax: base.checkpointBytesMax(decided.plan.method),
    epochs: decided.epochs,
    learningRateMultiplier: decided.learningRateMultiplier,
  });
  if (!isSet || !(await ports.jobs.addRows(jobId, rowsOf(segmentsOf(decided.plan))))) return 'not-validating';
  return start(ports, tune, decided, counted);
}

/** A segment's input follows from the plan: there is nothing to read. */
function rowsOf(segments: number): NewRow[] {
  return Array.from({ length: segments }, (_, rowNo) => ({
    rowNo,
    customId: `segment-${rowNo}`,
    offset: 0,
    length: 0,
  }));
}

async function fail(
  ports: ValidateFineTunePorts,
  tune: FineTuneView,
  faults: readonly BatchFault[],
): Promise<'failed' | 'not-validating'> {
  if (!(await ports.jobs.fail(tune.job.id, faults))) return 'not-validating';
  await ports.fineTunes.note(
    tune.job.id,
    faults.map((fault, no) => ({
      key: `fault-${no}`,
      level: 'error',
      type: 'message',
      message: `${fault.line === null ? '' : `Line ${fault.line}: `}${fault.message}`,
    })),
  );
  return 'failed';
}

async function checkFiles(
  ports: ValidateFineTunePorts,
  tune: FineTuneView,
  trainingFileId: string,
  signal: AbortSignal,
): Promise<Refused | { ok: true; decided: DecidedPlan; counted: PlannedTraining; base: TrainableBase }> {
  const { asked } = tune;
  const base = ports.bases.all().find(({ model }) => model === asked.base);
  if (base === undefined)
    return refuse('model_not_supported', `'${asked.base}' cannot be fine-tuned here any more.`, 'model');
  const examples = await readExamples(ports.objects, trainingFileId, 'training_file');
  const others = [
    asked.validationFileId === null
      ? null
      : await readExamples(ports.objects, asked.validationFileId, 'validation_file'),
    asked.evaluation === null
      ? null
      : await readExamples(ports.objects, asked.evaluation.fileId, 'metadata.evaluation_file'),
  ];
  const faults = [examples, ...others].flatMap((read) => read?.faults ?? []);
  if (faults.length > 0) return { ok: false, faults };
  const dataSha256 = await ports.fineTunes.dataSha256(tune.job.id);
  await ports.fineTunes.useBlobs(tune.job.id, [dataSha256]);
  await keepData(ports.objects, trainingFileId, dataSha256);
  const facts = { base, dataSha256, examples: examples.examples };
  const draft = planFor(asked, { ...facts, tokens: null });
  try {
    const data = await ports.blobs.path(dataSha256, signal);
    const counted = await ports.bases.with(draft.plan, data, (at) => Promise.resolve(at.planned), signal);
    return { ok: true, decided: planFor(asked, { ...facts, tokens: counted.tokens }), counted, base };
  } catch (error) {
    if (!(error instanceof TrainerError) || error.retryable) throw error;
    const fault = { code: error.code, message: error.message, param: 'training_file', line: error.line ?? null };
    return { ok: false, faults: [fault] };
  }
}

/** The training file under its own hash, where nodes get it: the requester may delete the file meanwhile. */
async function keepData(objects: ObjectStore, fileId: string, sha256: string): Promise<void> {
  const bytes = await objects.size(fileObject(fileId));
  if (bytes === null || (await objects.size(blobName(sha256))) === bytes) return;
  await objects.put(blobName(sha256), objects.read(fileObject(fileId)), bytes, sha256);
}

async function start(
  ports: ValidateFineTunePorts,
  tune: FineTuneView,
  decided: DecidedPlan,
  counted: PlannedTraining,
): Promise<'started' | 'failed' | 'not-validating'> {
  const usage = { trainingToken: plannedTokens(decided.plan, counted.examples, counted.tokens) };
  const offers = await ports.offers.offers();
  const maxCost = parseMoney(tune.job.metadata['max_cost'] ?? '');
  const windowMs = tune.job.deadlineAtMs - tune.job.createdAtMs;
  const priced = pricedAsTraining(tune.asked.base, { catalogue: ports.catalogue, offers }, usage, maxCost, windowMs);
  const prices = await inSteps(pricesFor(priced, tune.job.region, nodeNeedsOf(tune.job.metadata)));
  const cap = prices.cap(maxCost);
  const failWith = (code: string, message: string, param: string | null): Promise<'failed' | 'not-validating'> =>
    fail(ports, tune, [{ code, message, param, line: null }]);
  const { verify: level } = tune.job;
  const asked = { level, model: trainerModel(tune.asked.base), ...whereaboutsOf(tune.job) };
  const inTime = offers.filter((offer) => mayReturn(offer, windowMs));
  const verifiable = await inSteps(verifyingBy(asked, inTime, ports.holdsModel));
  const isSeen = verifiable.possible || (cap.ok && verifiable.workers === 0);
  if (!isSeen) return failWith(NOT_VERIFIABLE, verifiable.summary, 'metadata.verify');
  if (!cap.ok && cap.why === 'no-price')
    return failWith(
      'no_price',
      `Nobody trains '${tune.asked.base}' now, and the catalogue has no ceiling for it.`,
      'model',
    );
  if (!cap.ok) {
    return failWith(
      'cap_too_low',
      `metadata.max_cost ${formatMoney(maxCost ?? 0n)} does not cover ${usage.trainingToken} training tokens: ${formatMoney(cap.needed)} would do. Raise it, or train for fewer epochs.`,
      'metadata.max_cost',
    );
  }
  const plan = {
    model: trainerModel(tune.asked.base),
    tuned: null,
    rowCount: segmentsOf(decided.plan),
    cap: cap.cap,
    rateCaps: cap.rateCaps,
    counted: null,
    worst: usage,
    promptBlocks: [],
  };
  const impossible = await whyImpossible(ports, offers, { ...tune.job, plan, windowMs, priced });
  if (impossible !== null) return failWith(impossible.code, impossible.message, impossible.param);
  if (!verifiable.possible) return failWith(NOT_VERIFIABLE, verifiable.summary, 'metadata.verify');
  const started = await ports.jobs.start(tune.job.id, plan);
  if (started.started) {
    await noteStart(ports, tune, decided, counted);
    return 'started';
  }
  if (started.why === 'moved-by-another') return 'not-validating';
  const [code, what] =
    started.why === 'daily-cap'
      ? (['daily_cap_reached', 'this key may spend'] as const)
      : (['insufficient_balance', 'the balance is'] as const);
  return failWith(
    code,
    `This fine-tune may cost up to ${formatMoney(cap.cap)} and ${what} ${formatMoney(started.balance)}. Add funds, set metadata.max_cost, or train for fewer epochs.`,
    'training_file',
  );
}

async function noteStart(
  ports: ValidateFineTunePorts,
  tune: FineTuneView,
  { plan, epochs }: DecidedPlan,
  counted: PlannedTraining,
): Promise<void> {
  await ports.fineTunes.note(tune.job.id, [
    {
      key: 'validated',
      level: 'info',
      type: 'message',
      message: `Files validated: ${counted.examples} examples, ${counted.tokens} tokens, of which ${counted.trainedTokens} are learnt.`,
    },
    {
      key: 'queued',
      level: 'info',
      type: 'message',
      message: `Queued: ${plan.steps} steps (${epochs} epochs, ${plan.batch.examples} examples a step) in ${segmentsOf(plan)} segments.`,
      data: { steps: plan.steps, segments: segmentsOf(plan), seed: plan.seed, endpoint: FINE_TUNE_ENDPOINT },
    },
  ]);
}

function refuse(code: string, message: string, param: string): Refused {
  return { ok: false, faults: [{ code, message, param, line: null }] };
}
