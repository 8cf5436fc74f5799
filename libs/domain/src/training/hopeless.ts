/** What a trainer says when the plan itself cannot be trained: whoever tries it says the same. */
export const HOPELESS_CODES = ['loss_exploded', 'data_invalid', 'example_too_long', 'plan_unsupported'] as const;
/** One trainer may be broken; two that say so are believed. */
export const HOPELESS_ATTEMPTS = 2;

export interface RunFailure {
  readonly code: string;
  readonly message: string;
}

/**
 * Why a run of segments is given up, as its owner reads it.
 *
 * @param why What its last lease ended with: `<code>: <message>` when a trainer said it.
 */
export function runFailure(attempts: number, why: string | null): RunFailure {
  const code = HOPELESS_CODES.find((hopeless) => why?.startsWith(`${hopeless}: `));
  if (code !== undefined && why !== null) return { code, message: why.slice(code.length + 2) };
  return { code: 'attempts_exhausted', message: `gave up after ${attempts} attempts: ${why ?? 'lost'}` };
}
