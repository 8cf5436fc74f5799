import type { z } from 'zod';

/** Why a body (or a line of a batch) is refused. */
export interface Problem {
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
}

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: Problem };

export function refused(code: string, message: string, param: string | null = null): { ok: false; problem: Problem } {
  return { ok: false, problem: { code, message, param } };
}

/** The first issue of a failed parse in OpenAI's words: the parameter's path, what was expected, what came. */
export function problemOf(error: z.ZodError): Problem {
  const issue = error.issues[0];
  if (issue === undefined) return { code: 'invalid_value', message: 'The request is malformed.', param: null };
  const param = issue.path.length === 0 ? null : pathText(issue.path);
  if (issue.code === 'invalid_type' && issue.message.endsWith('received undefined')) {
    return { code: 'missing_required_parameter', message: `Missing required parameter: '${param ?? 'body'}'.`, param };
  }
  return { code: 'invalid_value', message: `Invalid value for '${param ?? 'body'}': ${issue.message}.`, param };
}

function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('')
    .slice(0, 200);
}
