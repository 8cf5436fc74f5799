import { execFile } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';

/** What `npx freehold` runs in a clone: npm links it when it installs. */
const LINKED = join(process.cwd(), 'node_modules/.bin/freehold');

function freehold(...args: string[]): Promise<{ code: unknown; out: string; err: string }> {
  return new Promise((resolve) =>
    execFile(LINKED, args, (error, out, err) => resolve({ code: error?.code ?? 0, out, err })),
  );
}

/** A port of ours that nothing listens on any more. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

it('npx finds the command in an installed clone', async () => {
  const help = await freehold('--help');
  expect([help.code, help.err]).toEqual([0, '']);
  expect(help.out).toMatch(/^Usage: freehold /);
}, 60_000);

it('a market that does not run is named, with what came and what to do', async () => {
  const url = `http://127.0.0.1:${await closedPort()}`;
  const asked = [
    ['why', 'batch_1'],
    ['node', 'why'],
  ].map((words) => freehold(...words, '--url', url, '--key', 'fh_none'));
  for (const { code, out, err } of await Promise.all(asked)) {
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain(`Asked the market's API at ${url}; nothing listens at ${new URL(url).host} (ECONNREFUSED).`);
    expect(err).toMatch(/not running.*"npm start".*--url URL/);
  }
}, 60_000);
