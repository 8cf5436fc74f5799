import { createHash } from 'node:crypto';

/** The house has about 150 texts; whatever makes new ones for ever is planned each time, not kept by the server. */
export const STATEMENT_NAMES_MAX = 500;

/**
 * Names under which the server keeps statements that come again and again: a third of what it does for a chat is parsing and
 * planning the same texts. A name follows from its text alone, so that connections agree.
 */
export class StatementNames {
  readonly #names = new Map<string, string>();

  of(sql: string): string | undefined {
    const known = this.#names.get(sql);
    if (known !== undefined) return known;
    if (this.#names.size >= STATEMENT_NAMES_MAX) return undefined;
    const name = `f${createHash('sha256').update(sql).digest('hex').slice(0, 24)}`;
    this.#names.set(sql, name);
    return name;
  }
}
