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

it('up says in a line what is wrong with an address and with a server, and ends', async () => {
  const id = 'p2p/16Uiu2HAmPxYsM4h2QZzPvMPdyoQvZbRuUHhCmVMCDnUzmzGHeJmU';
  const up = (coordinator: string, engine: string): ReturnType<typeof words> =>
    words('up', '--coordinator', coordinator, '--engine', engine, '--data', join(folder, 'up'));
  const other = await up('http://x', 'use-lite');
  expect(other).toEqual({
    code: 1,
    out: '',
    err: '--coordinator http://x: expected /ip4/…/tcp/…/p2p/<peer id>, as the coordinator prints it.\n',
  });
  const misspelt = await up(`/ip4/127.0.0.400/tcp/1/${id}`, 'use-lite');
  expect(misspelt.err).toMatch(/127\.0\.0\.400.* is no address of a coordinator: expected .*\n$/);
  const down = await up(`/ip4/127.0.0.1/tcp/1/${id}`, 'http://127.0.0.1:9');
  expect(down.err).toMatch(/http:\/\/127\.0\.0\.1:9.* start the server or check the URL\.\n$/);
  expect([misspelt.code, down.code]).toEqual([1, 1]);
  expect(`${misspelt.err}${down.err}`).not.toMatch(/\n\s+at /);
}, 60_000);

it('lists why among its words, though the market answers it', async () => {
  const help = await words('--help');
  expect(help.out).toMatch(/^ {2}freehold node why \[node\]/m);
}, 60_000);
