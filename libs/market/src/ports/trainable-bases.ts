import type { ExportFormat, TrainingPlan, WrittenFile } from '@freehold/protocol';
import type { Evaluation, PlannedTraining } from './trainer.ts';

/** A base that this coordinator can check fine-tunes of by itself. */
export interface TrainableBase {
  readonly model: string;
  /** Of the file that trainers load. */
  readonly sha256: string;
  readonly contextTokens: number;
  /** Size of a checkpoint at most: what a node may bring per segment. */
  readonly checkpointBytesMax: (method: TrainingPlan['method']) => number;
}

/** The coordinator's own trainer at work on one plan. Files are paths of this machine. */
export interface PlanAtHand {
  readonly planned: PlannedTraining;
  evaluate(checkpoint: string | null, data: string, signal: AbortSignal): Promise<Evaluation>;
  export(checkpoint: string, format: ExportFormat, signal: AbortSignal): Promise<readonly WrittenFile[]>;
}

/** What a checkpoint's bytes say of themselves. */
export interface CheckpointFacts {
  /** Hash of the state that its tensors are. */
  readonly state: string;
  /** Of the plan, the base and the data that it was trained for, as its maker wrote them. */
  readonly plan: string | undefined;
  readonly base: string | undefined;
}

/** Bases that may be fine-tuned here. Others are refused: nobody could say what an adapter of theirs is worth. */
export abstract class TrainableBases {
  abstract all(): readonly TrainableBase[];
  /**
   * Counts data that no job has yet; the plan's own word on its data is not read. @throws {TrainerError} `retryable` also
   * when too many are being counted.
   */
  abstract count(plan: TrainingPlan, data: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<PlannedTraining>;
  /** Reads a checkpoint of at most {@link TrainableBase.checkpointBytesMax} bytes; null for bytes that are none. */
  abstract checkpointFacts(bytes: AsyncIterable<Uint8Array>): Promise<CheckpointFacts | null>;
  /** Opens the plan with the coordinator's own trainer, which is closed afterwards. @throws {TrainerError} */
  abstract with<T>(
    plan: TrainingPlan,
    data: string,
    use: (at: PlanAtHand) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T>;
}
