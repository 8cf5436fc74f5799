import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Command } from 'commander';
import { ledger } from '@freehold/domain';
import { Statement } from '@freehold/protocol';
import { addStatement } from './statement.ts';

const DOCS = readFileSync(new URL('../../../docs/operating/statements.md', import.meta.url), 'utf8');
const NOVEMBER = Statement.parse(JSON.parse(/```json\n([\s\S]*?)```/.exec(DOCS)?.[1] ?? ''));

/** An API whose account is the one of the docs, answering a line a page: the command has to ask again. */
let api: Server;
let url: string;
const asked: string[] = [];
beforeAll(async () => {
  api = createServer((request, response) => {
    const { searchParams } = new URL(request.url ?? '', 'http://here');
    asked.push(`${request.headers.authorization} ${request.url}`);
    const at = NOVEMBER.data.findIndex(({ id }) => id === searchParams.get('after')) + 1;
    const data = NOVEMBER.data.slice(at, at + 1);
    const isLast = at + 1 === NOVEMBER.data.length;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ ...NOVEMBER, data, last_id: data[0]?.id ?? null, has_more: !isLast }));
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => api.once('listening', resolve));
  url = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
});
afterAll(() => new Promise((resolve) => api.close(resolve)));

/** What the command says: its output, or the words it fails with. */
async function said(words: readonly string[]): Promise<string> {
  const written: string[] = [];
  const spy = jest.spyOn(process.stdout, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  const program = new Command('freehold');
  addStatement(program);
  try {
    await program.parseAsync([...words, '--url', url, '--key', 'fh_key'], { from: 'user' });
  } catch (error) {
    return `${(error as Error).message}\n`;
  } finally {
    spy.mockRestore();
  }
  return written.join('').replaceAll('\r\n', '\n');
}

describe('freehold statement', () => {
  const session = /```console\n([\s\S]*?)```/.exec(DOCS)?.[1] ?? '';
  const examples = session.split(/^\$ freehold /m).slice(1);
  it('is documented with examples', () => expect(examples.length).toBeGreaterThanOrEqual(4));

  it.each(examples.map((example) => [example.slice(0, example.indexOf('\n')), example]))(
    'answers "%s" as the docs say',
    async (command, example) => {
      expect(await said(command.split(' '))).toBe(example.slice(command.length + 1));
    },
  );

  it('reads every page with the key, and prints one JSON document that has them all', async () => {
    asked.length = 0;
    const document: unknown = JSON.parse(
      await said(['statement', '--json', '--from', '2026-11-01', '--job', 'batch_01']),
    );
    expect(document).toEqual(NOVEMBER);
    expect(asked).toEqual([
      'Bearer fh_key /market/v1/account/statement?from=2026-11-01&job=batch_01&limit=1000',
      'Bearer fh_key /market/v1/account/statement?from=2026-11-01&job=batch_01&after=11&limit=1000',
    ]);
  });

  it('has a row in its docs for every kind of line', () => {
    for (const kind of ledger.LEDGER_KINDS) expect(DOCS).toContain(`\`${kind}\``);
  });
});
