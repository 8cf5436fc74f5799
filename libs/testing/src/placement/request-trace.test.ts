import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from '@jest/globals';
import { readRequests } from './request-trace.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-requests-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function written(name: string, ...lines: readonly string[]): string {
  const file = join(folder, name);
  const text = lines.join('\n');
  writeFileSync(file, name.endsWith('.gz') ? gzipSync(text) : text);
  return file;
}
const json = (more: object): string =>
  JSON.stringify({ timestamp: 1_000, input_length: 5, output_length: 7, hash_ids: [1, 2], ...more });
const HEADER = 'TIMESTAMP,ContextTokens,GeneratedTokens';

describe('a trace of requests', () => {
  it('is read in the order of arrival, whatever the order of its rows, from the first on', () => {
    const { rows, refused } = readRequests(
      written('order.jsonl.gz', json({ timestamp: 9_000 }), json({}), json({ timestamp: 3_500, hash_ids: null })),
    );
    expect(rows).toEqual([
      { atS: 0, prompt: 5, output: 7, blocks: [1, 2] },
      { atS: 2.5, prompt: 5, output: 7, blocks: null },
      { atS: 8, prompt: 5, output: 7, blocks: [1, 2] },
    ]);
    expect(refused).toEqual([]);
  });

  it('of a table is read with the line ends of any system, its last line with or without one', () => {
    const rows = [HEADER, '2023-11-16 18:15:46.5,374,44', '2023-11-16 18:15:50.0,0,109'];
    for (const file of [written('crlf.csv', rows.join('\r\n'), ''), written('plain.csv', ...rows)])
      expect(readRequests(file).rows).toEqual([
        { atS: 0, prompt: 374, output: 44, blocks: null },
        { atS: 3.5, prompt: 0, output: 109, blocks: null },
      ]);
  });

  it('with broken rows is read without them, each named with its line and what was expected', () => {
    const broken = readRequests(
      written(
        'broken.jsonl',
        '{"timestamp": 1',
        json({ timestamp: null }),
        '',
        json({ timestamp: '12' }),
        json({ timestamp: 1e300 }),
        json({ input_length: -1 }),
        json({ output_length: 0.5 }),
        json({ output_length: undefined }),
        json({ hash_ids: [1, 'x'] }),
        '[1]',
        json({}),
      ),
    );
    expect(broken.rows).toHaveLength(1);
    expect(broken.refused).toEqual([
      { line: 1, why: 'expected one JSON object' },
      { line: 2, why: 'timestamp is null: expected a number of milliseconds' },
      { line: 4, why: 'timestamp is 12: expected a number of milliseconds' },
      { line: 5, why: 'timestamp is 1e+300: expected a number of milliseconds' },
      { line: 6, why: 'input_length is -1: expected a whole number of tokens from 0 to 10000000' },
      { line: 7, why: 'output_length is 0.5: expected a whole number of tokens from 0 to 10000000' },
      { line: 8, why: 'output_length is missing: expected a whole number of tokens from 0 to 10000000' },
      { line: 9, why: 'hash_ids is [1,"x"]: expected a list of whole numbers' },
      { line: 10, why: 'expected one JSON object' },
    ]);
    const table = readRequests(
      written(
        'broken.csv',
        HEADER,
        'soon,1,1',
        '2023-11-16 18:15:46,NaN,1',
        '2023-11-16 18:15:46,1',
        ',1,1',
        '2023-11-16,1,1',
      ),
    );
    expect(table.rows).toHaveLength(1);
    expect(table.refused).toEqual([
      { line: 2, why: 'TIMESTAMP is soon: expected a time as 2023-11-16 18:15:46.6805900' },
      { line: 3, why: 'ContextTokens is NaN: expected a whole number from 0 to 10000000' },
      { line: 4, why: 'GeneratedTokens is empty' },
      { line: 5, why: 'TIMESTAMP is empty' },
    ]);
  });

  it('without the columns or a usable row is refused as a whole', () => {
    expect(() => readRequests(written('other.csv', 'a,b', '1,2'))).toThrow(
      /expected the columns TIMESTAMP, ContextTok/,
    );
    expect(() => readRequests(written('empty.csv'))).toThrow(/expected the columns/);
    expect(() => readRequests(written('header.csv', HEADER))).toThrow(/no usable row \(the file is empty\)/);
    expect(() => readRequests(written('empty.jsonl'))).toThrow(/no usable row \(the file is empty\)/);
    expect(() => readRequests(written('none.jsonl', '{}'))).toThrow(/no usable row \(timestamp is missing/);
  });
});
