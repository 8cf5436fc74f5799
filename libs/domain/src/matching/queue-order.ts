/** Priorities are 0..{@link PRIORITY_MAX}; one level is worth this much of another job's slack. */
export const PRIORITY_STEP_MS = 600_000;
export const PRIORITY_MAX = 3;

/** What decides a job's turn. */
export interface Turn {
  readonly ask: { readonly jobId: string; readonly deadlineInMs: number };
  readonly ageMs: number;
  readonly priority?: number;
}

/** Slack that counts: what is left to the deadline, less what it has waited, less its priority. The least comes first. */
export function slackMs({ ask, ageMs, priority = 0 }: Turn): number {
  return ask.deadlineInMs - ageMs - Math.min(PRIORITY_MAX, Math.max(0, priority)) * PRIORITY_STEP_MS;
}

/**
 * The longest that newcomers of any priority and any deadline can keep a job waiting, by its completion window. Its slack
 * shrinks by two milliseconds each millisecond (the deadline comes nearer, its age grows), a newcomer's starts at zero or more.
 */
export function starvationBoundMs(windowMs: number): number {
  return Math.ceil((windowMs + PRIORITY_MAX * PRIORITY_STEP_MS) / 2);
}

/** Least slack first; the id decides between equals. */
export function byUrgency(a: Turn, b: Turn): number {
  return slackMs(a) - slackMs(b) || (a.ask.jobId < b.ask.jobId ? -1 : 1);
}
