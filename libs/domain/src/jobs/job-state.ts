/**
 * The life of a job, in the words of OpenAI's batches. Streamed jobs (chat, embedding) use the same words and skip
 * validation; a job leaves `in_progress` when every row has its terminal record, `finalizing` when the files are written.
 */
export const JOB_STATES = [
  'validating',
  'failed',
  'in_progress',
  'finalizing',
  'completed',
  'expired',
  'cancelling',
  'cancelled',
] as const;
export type JobState = (typeof JOB_STATES)[number];

export const JOB_KINDS = ['batch', 'chat', 'embedding', 'fine-tune'] as const;
export type JobKind = (typeof JOB_KINDS)[number];

const TRANSITIONS: Readonly<Record<JobState, readonly JobState[]>> = {
  validating: ['failed', 'in_progress', 'cancelled', 'expired'],
  in_progress: ['finalizing', 'cancelling', 'failed', 'expired'],
  finalizing: ['completed', 'expired', 'cancelled', 'failed'],
  cancelling: ['cancelled', 'finalizing'],
  failed: [],
  completed: [],
  expired: [],
  cancelled: [],
};

export function isJobFinal(state: JobState): boolean {
  return TRANSITIONS[state].length === 0;
}

/** Exactly one terminal record per `custom_id`. */
export const ROW_STATES = ['pending', 'succeeded', 'failed', 'expired', 'cancelled'] as const;
export type RowState = (typeof ROW_STATES)[number];

/** How much is checked before a row is paid for; meanings in docs/protocol/words.md. */
export const VERIFY_LEVELS = ['off', 'spot', 'quorum', 'strict'] as const;
export type VerifyLevel = (typeof VERIFY_LEVELS)[number];
