import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';

const MAIN = join(process.cwd(), 'apps/node/dist/main.js');
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-no-node-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function words(...args: string[]): Promise<{ code: unknown; out: string; err: string }> {
  return new Promise((resolve) =>
    execFile(process.execPath, [MAIN, ...args], (error, out, err) => resolve({ code: error?.code ?? 0, out, err })),
  );
}

it('status and drain say that there is no node in a folder, and what to do', async () => {
  const mistyped = join(folder, 'mistyped');
  const [status, drain] = await Promise.all([words('status', '--data', mistyped), words('drain', '--data', folder)]);
  expect([status.code, status.out, drain.code, drain.out]).toEqual([1, '', 1, '']);
  expect(status.err).toContain(`There is no node in ${mistyped}: the folder does not exist.`);
  expect(status.err).toContain('--data DIR');
  expect(drain.err).toContain(`There is no node in ${folder}: the folder holds no node`);
}, 60_000);
