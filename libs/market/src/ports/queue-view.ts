import type { Backlog, PastFinish } from '@freehold/domain';

/** Whose turn is asked about: of rows that would be submitted now, or of a job that is there. */
export type Turn = { readonly deadlineInMs: number; readonly priority: number } | { readonly jobId: string };

/** The queue of batches, counted: what admission and expectations rest on. */
export abstract class QueueView {
  /** Rows of a model without an answer. A batch whose file is still being read counts by its size, in every market. */
  abstract backlog(model: string, orgId: string, turn: Turn): Promise<Backlog>;
  /** Of batches of a model that completed, newest first: when they were expected to be over, and when they were. */
  abstract pastFinishes(model: string, limit: number): Promise<readonly PastFinish[]>;
  /** Notes what is expected of a job that starts now. */
  abstract expect(jobId: string, seconds: number): Promise<void>;
}
