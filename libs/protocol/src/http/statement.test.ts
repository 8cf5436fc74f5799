import fc from 'fast-check';
import { describe, expect, it } from '@jest/globals';
import { csvRecord } from './csv.ts';
import { parseStatementRequest, statementCsv, STATEMENT_LINES_MAX } from './statement.ts';

const line = { id: '7', at: '2026-11-01T00:00:00.000Z', kind: 'hold', ref: 'job', asset: 'money' };

/** A reader of RFC 4180, written without the writer. */
function readRecord(text: string): readonly string[] {
  const fields: string[] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n$)/y;
  for (let end = ''; end !== '\r\n';) {
    const match = field.exec(text);
    if (match === null) throw new Error(`not CSV: ${text}`);
    fields.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '');
    end = match[3] ?? '';
  }
  return fields;
}

describe('a statement as CSV', () => {
  it('gives every text back as it was, but for an apostrophe before what a spreadsheet would run', () => {
    const text = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[ \t\r\n=+@|%,"'\-a0]{0,8}$/));
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 5 }), (fields) => {
        const read = readRecord(csvRecord(fields));
        expect(read.map((field, n) => (field === `'${fields[n]}` ? fields[n] : field))).toEqual(fields);
        for (const field of read) expect(/^-?\d+$/.test(field) || !/^[=+\-@\t\r]/.test(field)).toBe(true);
        for (const field of read) expect(/^-?\d+$/.test(field) || !/^[=+\-@|%]/.test(field.trimStart())).toBe(true);
      }),
    );
  });

  it('keeps amounts whole numbers, far beyond what a float holds', () => {
    const amount = `-${'9'.repeat(78)}`;
    expect(statementCsv([{ ...line, amount, balance: '0' }])).toBe(
      `at,kind,ref,asset,amount,balance\r\n2026-11-01T00:00:00.000Z,hold,job,money,${amount},0\r\n`,
    );
  });
});

describe('the period of a statement', () => {
  it('is days or moments with their zone, half open', () => {
    const parsed = parseStatementRequest({ from: '2026-11-01', until: '2026-12-01T02:00:00+02:00', limit: '10' });
    expect(parsed).toMatchObject({
      ok: true,
      value: { from: '2026-11-01T00:00:00.000Z', until: '2026-12-01T00:00:00.000Z', after: null, limit: 10, job: null },
    });
    expect(parseStatementRequest({})).toMatchObject({ ok: true, value: { limit: STATEMENT_LINES_MAX, from: null } });
  });

  it.each([
    [{ from: '2026-02-30' }, 'from'],
    [{ from: '2026-11-01T12:00:00' }, 'from'],
    [{ until: 'yesterday' }, 'until'],
    [{ until: '0001-01-01' }, 'until'],
    [{ from: '2026-11-02', until: '2026-11-01' }, 'until'],
    [{ from: '2026-11-01', until: '2026-11-01' }, 'until'],
    [{ limit: '0' }, 'limit'],
    [{ limit: '1001' }, 'limit'],
    [{ after: '-1' }, 'after'],
    [{ after: '9'.repeat(19) }, 'after'],
    [{ format: 'xml' }, 'format'],
    [{ from: ['2026-11-01', '2026-11-02'] }, 'from'],
    [{ org: 'org_other' }, 'org'],
  ])('refuses %j by its name', (query, param) => {
    const parsed = parseStatementRequest(query);
    expect(parsed.ok).toBe(false);
    expect(JSON.stringify(parsed)).toContain(param);
  });
});
