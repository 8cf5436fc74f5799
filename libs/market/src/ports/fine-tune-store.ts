import type { VerifyLevel } from '@freehold/domain';
import type { AskedHyperparameters, TrainingPlan } from '@freehold/protocol';
import type { BatchFault, JobView, OutputFile } from './job-store.ts';
import type { Listed, Once, Page, RequestIdentity } from './once.ts';

/** What was asked for and stays as it was asked. */
export interface FineTuneAsked {
  readonly base: string;
  readonly suffix: string | null;
  readonly seed: number;
  readonly validationFileId: string | null;
  readonly evaluation: { readonly fileId: string; readonly exactMatchMin: number } | null;
  readonly hyperparameters: AskedHyperparameters;
  readonly hasMethod: boolean;
  readonly segmentSteps: number | null;
}

/** What validation decided. */
export interface FineTunePlan {
  readonly plan: TrainingPlan;
  readonly initialState: string;
  readonly contextTokens: number;
  readonly checkpointBytesMax: number;
  readonly epochs: number;
  readonly learningRateMultiplier: number;
}

export interface FineTuneView {
  readonly job: JobView;
  readonly asked: FineTuneAsked;
  /** Null until the files are validated. */
  readonly planned: FineTunePlan | null;
  readonly pausedAtMs: number | null;
  /** Whether a node has it, or had. */
  readonly started: boolean;
  /** Segments accepted or delivered, and how long nodes were at work on the job: what the estimate of the end rests on. */
  readonly segmentsDone: number;
  readonly workedMs: number;
  /** Tokens of accepted segments. */
  readonly trainedTokens: bigint;
  readonly modelName: string | null;
  /** What the hidden evaluation found last, and in which checkpoint; null: none was asked for, or not yet. */
  readonly evaluated: { readonly checkpoint: string; readonly exactMatch: number; readonly passed: boolean } | null;
  readonly resultFileIds: readonly string[];
  /** The database's clock when this was read. */
  readonly nowMs: number;
}

export interface NewFineTune {
  readonly id: string;
  readonly orgId: string;
  readonly keyId: string;
  readonly trainingFileId: string;
  readonly asked: FineTuneAsked;
  readonly metadata: Readonly<Record<string, string>>;
  readonly verify: VerifyLevel;
  readonly region: string | null;
  readonly priority: number;
  readonly deadlineInMs: number;
}

export interface NewFineTuneEvent {
  /** Once per job and key, for ever: handlers run twice. */
  readonly key: string;
  readonly level: 'info' | 'warn' | 'error';
  readonly type: 'message' | 'metrics';
  readonly message: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

export interface FineTuneEvent extends Omit<NewFineTuneEvent, 'key'> {
  readonly id: string;
  readonly createdAtMs: number;
}

/** A fine-tuned model: an adapter under a name. */
export interface FineTunedModel {
  readonly name: string;
  readonly orgId: string;
  readonly jobId: string;
  readonly base: string;
  /** sha256 of the adapter's GGUF file. */
  readonly adapter: string;
  readonly createdAtMs: number;
}

export interface FineTuneResult {
  readonly model: { readonly name: string; readonly base: string; readonly adapter: string } | null;
  readonly files: readonly (OutputFile & { readonly purpose: 'fine-tune-results' })[];
  /** Why there is no model. */
  readonly fault: BatchFault | null;
}

export type Paused = 'paused' | 'resumed' | 'not-now';

/** Fine-tuning jobs beyond what every job is. Every read with an organisation hides what is another's. */
export abstract class FineTuneStore {
  /** Job in state `validating`, its `validate` message, its first event and the request's identity commit together. */
  abstract submit(tune: NewFineTune, identity: RequestIdentity | null): Promise<Once<FineTuneView>>;
  abstract get(orgId: string, jobId: string): Promise<FineTuneView | null>;
  abstract list(
    orgId: string,
    page: Page,
    metadata: Readonly<Record<string, string>> | null,
  ): Promise<Listed<FineTuneView> | null>;
  /** For handlers of the queue, which have an id and no caller. */
  abstract find(jobId: string): Promise<FineTuneView | null>;
  /** sha256 of the training file, as it was stored. */
  abstract dataSha256(jobId: string): Promise<string>;
  /** While the job is validating: may be set again, and is the same then. False when it moved on. */
  abstract setPlan(jobId: string, planned: FineTunePlan): Promise<boolean>;
  /** A second run of the verification finds what the first found; another checkpoint takes the place of the one before. */
  abstract saveEvaluation(jobId: string, found: NonNullable<FineTuneView['evaluated']>): Promise<void>;
  abstract pause(orgId: string, jobId: string): Promise<Paused | null>;
  /** Asked after every segment: a pause is heard at the next one's beginning. */
  abstract isPaused(jobId: string): Promise<boolean>;
  abstract resume(orgId: string, jobId: string): Promise<Paused | null>;
  /** Null when there is no such job; false when it is over. */
  abstract cancel(orgId: string, jobId: string): Promise<boolean | null>;
  /** finalizing → completed with its model, failed, or cancelled; releases the hold. False when it was done before. */
  abstract finish(jobId: string, result: FineTuneResult): Promise<boolean>;

  /** Notes that a job needs these objects, before it stores them or relies on them. Waits while objects are being removed. */
  abstract useBlobs(jobId: string, sha256s: readonly string[]): Promise<void>;
  /**
   * Removes objects that only jobs need which ended so long ago, and whose leases' payloads are gone; never the adapter of a
   * model that has a name, nor of a job that still runs. Nobody can begin to need an object while it goes.
   *
   * @returns how many were removed.
   */
  abstract sweepBlobs(olderThanMs: number, limit: number, remove: (sha256: string) => Promise<void>): Promise<number>;

  abstract note(jobId: string, events: readonly NewFineTuneEvent[]): Promise<void>;
  /** Newest first. Null when there is no such job, or no such cursor. */
  abstract events(
    orgId: string,
    jobId: string,
    page: { readonly limit: number; readonly after: string | null },
  ): Promise<Listed<FineTuneEvent> | null>;

  abstract model(orgId: string, name: string): Promise<FineTunedModel | null>;
  abstract models(orgId: string): Promise<readonly FineTunedModel[]>;
  /** Names the adapter whose bytes nobody needs any more; null when it was the last name but one, `not-found` when there was none. */
  abstract removeModel(orgId: string, name: string): Promise<{ readonly orphan: string | null } | 'not-found'>;
}
