import type { Ask, ServedModel } from './ask.ts';

/** A job with rows that wait for a slot. */
export interface Demand {
  readonly ask: Ask;
  readonly ageMs: number;
  /** 0 is usual; see `byUrgency`. */
  readonly priority?: number;
  readonly nextRow: number;
  readonly rowCount: number;
  /** Each row stands on the one before: one lease at a time, from the first open row on. */
  readonly isRun?: boolean;
  /** Tasks that came back, in row order. */
  readonly queued: readonly {
    readonly taskId: string;
    readonly epoch: number;
    readonly rowFrom: number;
    readonly rowTo: number;
    readonly lastNode: string | null;
    /** Since it came back; absent where it just did. */
    readonly waitedMs?: number;
  }[];
}

/** One lease that the placement wants. `taskId` null cuts the rows from the job. */
export interface Placement {
  readonly jobId: string;
  readonly taskId: string | null;
  readonly epoch: number;
  readonly rowFrom: number;
  readonly rowTo: number;
  readonly nodeId: string;
  readonly model: ServedModel;
}
