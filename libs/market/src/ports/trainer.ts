import type { ExportFormat, TrainerAnswerOf, TrainerErrorCode, TrainingPlan, WrittenFile } from '@freehold/protocol';

export type TrainerDescription = Omit<TrainerAnswerOf<'hello'>, 'type' | 'id'>;
export type PlannedTraining = Omit<TrainerAnswerOf<'plan'>, 'type' | 'id'>;
export type TrainedStep = Omit<TrainerAnswerOf<'step'>, 'type' | 'id'>;
export type TrainedSegment = Omit<TrainerAnswerOf<'segment'>, 'type' | 'id'>;
export type Evaluation = Omit<TrainerAnswerOf<'evaluation'>, 'type' | 'id'>;
export type Artifact = Omit<TrainerAnswerOf<'artifact'>, 'type' | 'id'>;

/** Where the files of a plan lie on this machine. */
export interface TrainingFiles {
  readonly base: string;
  readonly data: string;
  /** Checkpoints and artifacts are written here. */
  readonly folder: string;
}

/** What a run tells while it goes on. */
export interface TrainingEvents {
  readonly onStep?: (step: TrainedStep) => void;
  readonly onSegment?: (segment: TrainedSegment) => void;
}

/**
 * What runs the segments of one fine-tune: one trainer per job, in a process of its own with a memory limit. Every
 * implementation passes `trainerSuite` of `@freehold/testing`. Anything that goes wrong is a {@link TrainerError}.
 */
export abstract class Trainer {
  abstract hello(): Promise<TrainerDescription>;
  /** Checks base and data against the plan and gets ready. Before everything below; a second plan takes the place of the first. */
  abstract plan(plan: TrainingPlan, files: TrainingFiles, signal: AbortSignal): Promise<PlannedTraining>;
  /**
   * Trains segments [from, to) from `checkpoint` (null: the initial state, for segment 0) and writes a checkpoint after
   * each. A segment counts when `onSegment` named it; what follows it is lost with the process.
   */
  abstract run(
    segments: { readonly from: number; readonly to: number; readonly checkpoint: string | null },
    events: TrainingEvents,
    signal: AbortSignal,
  ): Promise<void>;
  /** Loss and accuracy of a checkpoint (null: the base alone) on a file in the training file's format. */
  abstract evaluate(checkpoint: string | null, data: string, signal: AbortSignal): Promise<Evaluation>;
  abstract export(checkpoint: string, format: ExportFormat, signal: AbortSignal): Promise<Artifact>;
  abstract ping(): Promise<void>;
  abstract close(): Promise<void>;
}

/** The trainer did not do what was asked; the codes are the contract's, and `process_*` where the process itself failed. */
export class TrainerError extends Error {
  readonly code:
    TrainerErrorCode | 'process_not_started' | 'process_crashed' | 'process_broken' | 'process_timeout' | 'closed';
  readonly retryable: boolean;
  /** Line of the data file. */
  readonly line: number | undefined;
  readonly step: number | undefined;
  /** The last good checkpoint, where the run had made one. */
  readonly checkpoint: WrittenFile | undefined;

  constructor(
    code: TrainerError['code'],
    message: string,
    retryable: boolean,
    where: {
      readonly line?: number | undefined;
      readonly step?: number | undefined;
      readonly checkpoint?: WrittenFile | undefined;
    } = {},
  ) {
    super(message);
    this.name = 'TrainerError';
    this.code = code;
    this.retryable = retryable;
    this.line = where.line;
    this.step = where.step;
    this.checkpoint = where.checkpoint;
  }
}
