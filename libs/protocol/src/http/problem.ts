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

/**
 * The first issue of a failed parse in OpenAI's words: the parameter's path, what was expected, what came.
 *
 * @param root The parameter that was parsed, when it is not the whole body.
 */
export function problemOf(error: z.ZodError, root: string | null = null): Problem {
  const issue = error.issues[0];
  if (issue === undefined) return { code: 'invalid_value', message: 'The request is malformed.', param: root };
  // A key that is wrong is named by its owner: the key itself may be anything, and long.
  const path = issue.code === 'invalid_key' ? issue.path.slice(0, -1) : issue.path;
  if (issue.code === 'unrecognized_keys') return unknownKey([...(root === null ? [] : [root]), ...path], issue.keys[0]);
  const full = root === null ? path : [root, ...path];
  const param = full.length === 0 ? null : pathText(full);
  if (issue.code === 'invalid_type' && issue.message.endsWith('received undefined')) {
    return { code: 'missing_required_parameter', message: `Missing required parameter: '${param ?? 'body'}'.`, param };
  }
  const detail = issue.code === 'invalid_key' ? `a key is refused: ${issue.issues[0]?.message ?? ''}` : issue.message;
  return { code: 'invalid_value', message: `Invalid value for '${param ?? 'body'}': ${detail}.`, param };
}

/** The key is the sender's own text. */
function unknownKey(owner: readonly PropertyKey[], key = ''): Problem {
  const param = printable(pathText([...owner, key]), 64);
  return { code: 'unknown_parameter', message: `Unknown parameter: '${param}'.`, param };
}

function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('')
    .slice(0, 200);
}

/** Text that every store takes as it is: no NUL (PostgreSQL has none) and no half of a surrogate pair (UTF-8 has none). */
export function isStorable(text: string): boolean {
  // oxlint-disable-next-line no-control-regex -- NUL is what this looks for
  return !/[\u0000\ud800-\udfff]/u.test(text);
}

/** Text of others, made fit for a message, a log line or a column: control characters and broken pairs become `?`. */
export function printable(text: string, charsMax: number): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  return text.slice(0, charsMax).replace(/[\u0000-\u001f\u007f\ud800-\udfff]/gu, '?');
}
