import { describe, expect, it } from '@jest/globals';
import { STATEMENT_NAMES_MAX, StatementNames } from './statement-names.ts';

describe('names of statements', () => {
  it('follow from the text alone', () => {
    const name = new StatementNames().of('SELECT $1');
    expect(name).toBe(new StatementNames().of('SELECT $1'));
    expect(name).not.toBe(new StatementNames().of('SELECT $2'));
  });

  it('are given to so many texts only, and those keep theirs', () => {
    const names = new StatementNames();
    const first = names.of('SELECT 0');
    for (let i = 1; i < STATEMENT_NAMES_MAX; i += 1) expect(names.of(`SELECT ${i}`)).toBeDefined();
    expect(names.of('SELECT -1')).toBeUndefined();
    expect(names.of('SELECT 0')).toBe(first);
  });
});
