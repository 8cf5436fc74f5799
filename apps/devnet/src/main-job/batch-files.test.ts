import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { checkBatchFiles } from './batch-files.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-batch-files-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const row = (id: string, url = '/v1/embeddings'): string =>
  JSON.stringify({ custom_id: id, method: 'POST', url, body: { model: 'use-lite', input: 'x' } });

function given(text: string): string {
  const file = join(folder, 'in.jsonl');
  writeFileSync(file, text);
  return file;
}

const refusal = (file: string): Promise<Error> =>
  checkBatchFiles([file]).then(
    () => Promise.reject(new Error('it was taken')),
    (error: Error) => error,
  );

describe('a file given by --batch', () => {
  it('is counted, and its first line names the endpoint', async () => {
    const file = given(`${row('a')}\n\n${row('b')}\n`);
    expect(await checkBatchFiles([file])).toEqual([{ file, endpoint: '/v1/embeddings', rows: 2 }]);
  });

  it('is refused when it is empty, huge, or a folder', async () => {
    const empty = given('\n\n');
    expect((await refusal(empty)).message).toContain(`--batch ${empty}:\n  The file is empty`);
    truncateSync(empty, 201 * 1_048_576);
    expect((await refusal(empty)).message).toMatch(/has 201 MiB: a batch reads at most 200/);
    expect((await refusal(folder)).message).toContain('no file');
  });

  it('is refused with the numbers of its faulty lines, and only so many', async () => {
    const { name, message } = await refusal(
      given(
        [row('a'), '{"broken', row('a'), row('c', '/v1/chat/completions'), `"${'x'.repeat(1_100_000)}"`].join('\n'),
      ),
    );
    expect(name).toBe('BatchFileError');
    expect(message).toMatch(
      /line 2: This line is not valid JSON.*\n\s+line 3: its custom_id was used on line 1.*\n\s+line 4: The url .*\n\s+line 5: it has 1100002 bytes/,
    );
    const many = await refusal(given('x\n'.repeat(10_000)));
    expect(many.message.split('\n')).toHaveLength(1 + 10 + 1);
  });

  it('is refused beyond the rows of a batch', async () => {
    const lines = Array.from(
      { length: 50_001 },
      (_, n) => `{"custom_id":"${n}","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}}`,
    );
    expect((await refusal(given(lines.join('\n')))).message).toMatch(/line 50001: there are more than 50000 requests/);
  });
});
