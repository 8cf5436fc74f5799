import type { Ask, ServedModel } from './ask.ts';

/** A job with rows that wait for a slot. */
export interface Demand {
  readonly ask: Ask;
  readonly ageMs: number;
  /** 0 is usual; see `byUrgency`. */
  readonly priority?: number;
  readonly nextRow: number;
  readonly rowCount: number;
  /** What all its prompts begin with, by the names of its blocks; absent: nothing worth keeping. */
  readonly prompt?: { readonly orgId: string; readonly blocks: readonly string[] };
  /** Each row stands on the one before: one lease at a time, from the first open row on. */
  readonly isRun?: boolean;
  /** Begins on so many nodes at once or not yet, see `gangs.ts`; absent: it has begun, or begins on any. */
  readonly gang?: number;
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
