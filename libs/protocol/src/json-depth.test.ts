import { describe, expect, it } from '@jest/globals';
import { isTooDeep, JSON_DEPTH_MAX } from './json-depth.ts';
import { parseBatchLine } from './http/batch-line.ts';

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

describe('the depth of JSON text', () => {
  it('is taken up to its limit, and not one level further', () => {
    expect(isTooDeep(nested(JSON_DEPTH_MAX))).toBe(false);
    expect(isTooDeep(nested(JSON_DEPTH_MAX + 1))).toBe(true);
    expect(isTooDeep('{"a":'.repeat(JSON_DEPTH_MAX + 1))).toBe(true);
  });

  it('counts what is open at one time, not how many lists there are', () => {
    expect(isTooDeep(`[${Array(10_000).fill('[{}]').join(',')}]`)).toBe(false);
  });

  it('does not count brackets inside of strings, whatever is escaped there', () => {
    const text = `${'['.repeat(1_000)}"\\`;
    expect(isTooDeep(JSON.stringify({ text, [text]: [text] }))).toBe(false);
    expect(isTooDeep(`["\\\\",${nested(JSON_DEPTH_MAX)}]`)).toBe(true);
    expect(isTooDeep('["never closed [[[')).toBe(false);
  });

  it('ends before the limits of line and frame hurt: a line of half a million levels is refused at once', () => {
    const line = `{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x","z":${nested(500_000)}}}`;
    const startedMs = performance.now();
    expect(parseBatchLine(line, null)).toMatchObject({
      ok: false,
      problem: { code: 'invalid_json_line', message: expect.stringContaining(`at most ${JSON_DEPTH_MAX} levels`) },
    });
    // JSON.parse alone takes a second for it.
    expect(performance.now() - startedMs).toBeLessThan(100);
  });
});
