import { ApiError, invalidRequest, notFound, parseFineTuningRequest, type FineTuningRequest } from '@freehold/protocol';
import { keyReused } from '../request-identity.ts';
import { toHex } from '../hex.ts';
import type { FileStore } from '../ports/file-store.ts';
import type { FineTuneAsked, FineTuneStore, FineTuneView } from '../ports/fine-tune-store.ts';
import type { RequestIdentity } from '../ports/once.ts';
import type { Entropy } from '../ports/surroundings.ts';
import type { TrainableBases } from '../ports/trainable-bases.ts';

export interface SubmitFineTunePorts {
  readonly fineTunes: FineTuneStore;
  readonly files: FileStore;
  readonly bases: TrainableBases;
  readonly entropy: Entropy;
}

const ID_BYTES = 12;
const SEED_BYTES = 4;

/** Takes a fine-tuning job: the answer is in state `validating_files`, and from then on the job is not lost. */
export async function submitFineTune(
  ports: SubmitFineTunePorts,
  submission: {
    readonly orgId: string;
    readonly keyId: string;
    readonly body: unknown;
    readonly nowMs: number;
    readonly identity: RequestIdentity | null;
  },
): Promise<FineTuneView> {
  const parsed = parseFineTuningRequest(submission.body, submission.nowMs);
  if (!parsed.ok) throw invalidRequest(parsed.problem.code, parsed.problem.message, parsed.problem.param);
  const request = parsed.value;
  if (!ports.bases.all().some((base) => base.model === request.model)) throw unknownBase(ports.bases, request.model);
  await refuseUnfitFiles(ports.files, submission.orgId, request);
  const made = await ports.fineTunes.submit(
    {
      id: `ftjob-${toHex(ports.entropy.bytes(ID_BYTES)).slice(2)}`,
      orgId: submission.orgId,
      keyId: submission.keyId,
      trainingFileId: request.trainingFileId,
      asked: askedOf(request, Number.parseInt(toHex(ports.entropy.bytes(SEED_BYTES)).slice(2), 16) >>> 1),
      metadata: request.metadata,
      verify: request.terms.verify,
      region: request.terms.region,
      priority: request.terms.priority,
      deadlineInMs: request.deadlineInMs,
    },
    submission.identity,
  );
  if (made.outcome === 'key-reused') throw keyReused();
  return made.value;
}

/** @param drawn The seed, where the requester names none. */
export function askedOf(request: FineTuningRequest, drawn: number): FineTuneAsked {
  return {
    base: request.model,
    suffix: request.suffix,
    seed: request.seed ?? drawn,
    validationFileId: request.validationFileId,
    evaluation: request.evaluation,
    hyperparameters: request.hyperparameters,
    hasMethod: request.hasMethod,
    segmentSteps: request.segmentSteps,
  };
}

export function unknownBase(bases: TrainableBases, model: string): ApiError {
  const names = bases.all().map((base) => base.model);
  return invalidRequest(
    'model_not_supported',
    `The model '${model.slice(0, 128)}' cannot be fine-tuned here: expected ${names.map((name) => `'${name}'`).join(' or ') || 'another coordinator, this one has no trainer'}.`,
    'model',
  );
}

export async function refuseUnfitFiles(files: FileStore, orgId: string, request: FineTuningRequest): Promise<void> {
  const named = [
    { id: request.trainingFileId, param: 'training_file' },
    { id: request.validationFileId, param: 'validation_file' },
    { id: request.evaluation?.fileId ?? null, param: 'metadata.evaluation_file' },
  ];
  for (const { id, param } of named) {
    if (id === null) continue;
    const file = await files.get(orgId, id);
    if (file === null) throw notFound('file', id);
    if (file.purpose === 'fine-tune' || (param === 'metadata.evaluation_file' && file.purpose === 'evals')) continue;
    throw new ApiError({
      status: 400,
      type: 'invalid_request_error',
      code: 'invalid_file_purpose',
      message: `File '${file.id}' has purpose '${file.purpose}': expected a file uploaded with purpose 'fine-tune'.`,
      param,
    });
  }
}
