import type { PastCost, PastFinish, RegionBacklog } from '@freehold/domain';

/** Whose turn is asked about: of rows that would be submitted now, or of a job that is there. */
export type Turn = { readonly deadlineInMs: number; readonly priority: number } | { readonly jobId: string };

/** A batch that is over: completed, or cut off at its deadline. */
export interface PastBatch extends PastFinish, PastCost {
  readonly rows: number;
}

/** The queue of batches, counted: what admission and expectations rest on. */
export abstract class QueueView {
  /**
   * Rows of a model without an answer, by the region that they may go to. A batch whose file is still being read counts by its size,
   * in every market.
   *
   * @param usualRow What a row counts as with which speeds were measured; null: every row is a usual one.
   */
  abstract backlog(
    model: string,
    orgId: string,
    turn: Turn,
    usualRow: number | null,
  ): Promise<readonly RegionBacklog[]>;
  /** Batches of a model that are over, newest first: what was expected of them, and what came. */
  abstract pastBatches(model: string, limit: number): Promise<readonly PastBatch[]>;
  /** Notes what is expected of a job that starts now. */
  abstract expect(jobId: string, seconds: number): Promise<void>;
}
