import { connect } from 'node:net';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { apiHouse, type ApiHouse, type Tenant } from '../test/api-house.ts';

let house: ApiHouse;
let owner: Tenant;
beforeAll(async () => {
  house = await apiHouse();
  await house.link.connect(1, 'answers');
  owner = await house.org();
}, 60_000);
afterAll(() => house.close());

const TAKING_BODIES = ['/v1/chat/completions', '/v1/embeddings', '/v1/batches', '/v1/files', '/market/v1/quotes'];
const HUNDRED_MB = 100_000_000;

interface Wire {
  /** All that came so far. */
  heard(): string;
  /** Resolves when `text` was heard, so many times. */
  until(text: string, times?: number): Promise<void>;
  send(bytes: string | Uint8Array): Promise<boolean>;
  readonly closed: Promise<unknown>;
  hangUp(): void;
}

/** A socket of somebody who does not use a client library. */
async function wire(): Promise<Wire> {
  const socket = connect(Number(new URL(house.url).port), '127.0.0.1');
  let heard = '';
  socket.on('data', (chunk: Buffer) => (heard += chunk.toString('latin1')));
  // A reset is one of the ways in which a server hangs up.
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await once(socket, 'connect');
  return {
    heard: () => heard,
    until: async (text, times = 1) => {
      const gone = closed.then(() => Promise.reject(new Error(`closed after: ${heard}`)));
      while (heard.split(text).length <= times) await Promise.race([once(socket, 'data'), gone]);
    },
    send: (bytes) =>
      new Promise((resolve) => socket.write(bytes, (error) => resolve(error === undefined || error === null))),
    closed,
    hangUp: () => socket.destroy(),
  };
}

const head = (path: string, more: Record<string, string | number>): string =>
  [
    `POST ${path} HTTP/1.1`,
    'host: x',
    ...Object.entries(more).map(([name, value]) => `${name}: ${value}`),
    '',
    '',
  ].join('\r\n');

describe('who shows no key', () => {
  it.each(TAKING_BODIES)('is refused by POST %s before a byte of the body is there', async (path) => {
    const line = await wire();
    const type = path === '/v1/files' ? 'multipart/form-data; boundary=b' : 'application/json';
    await line.send(head(path, { 'content-type': type, 'content-length': HUNDRED_MB }));
    await line.until('missing_api_key');
    expect(line.heard()).toMatch(/^HTTP\/1\.1 401 /);
    line.hangUp();
  });

  it.each(TAKING_BODIES)('learns from POST %s nothing about a body that is malformed', async (path) => {
    const answer = await fetch(`${house.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer fh_nonsense' },
      body: '{"broken',
    });
    expect([answer.status, ((await answer.json()) as { error: { code: string } }).error.code]).toEqual([
      401,
      'invalid_api_key',
    ]);
  });

  it('is cut off when the rest of a large body comes all the same, also where there is no route', async () => {
    for (const path of ['/v1/chat/completions', '/v1/files', '/nowhere']) {
      const line = await wire();
      await line.send(head(path, { 'content-type': 'application/json', 'content-length': HUNDRED_MB }));
      await line.until('"error"');
      const chunk = Buffer.alloc(256 * 1_024, 0x20);
      let sent = 0;
      while (sent < HUNDRED_MB && (await line.send(chunk))) sent += chunk.length;
      await line.closed;
      // A mebibyte is read; what the kernels hold between us counts as sent too (at most 6 + 4 MB by Linux's defaults).
      expect(sent).toBeLessThan(HUNDRED_MB / 4);
    }
  }, 20_000);

  it('keeps its connection after a small body, as keep-alive clients expect', async () => {
    const line = await wire();
    const request = `${head('/v1/embeddings', { 'content-type': 'application/json', 'content-length': 2 })}{}`;
    await line.send(request);
    await line.until('missing_api_key');
    await line.send(request);
    await line.until('missing_api_key', 2);
    line.hangUp();
  });

  it('is not asked to go on by Expect: 100-continue, while a caller is', async () => {
    const stranger = await wire();
    const asking = { 'content-type': 'application/json', expect: '100-continue' };
    await stranger.send(head('/v1/embeddings', { ...asking, 'content-length': HUNDRED_MB }));
    await stranger.until('missing_api_key');
    expect(stranger.heard()).not.toContain('100 Continue');
    stranger.hangUp();

    const caller = await wire();
    const body = '{"model":"use-lite","input":"x"}';
    const authorization = `Bearer ${owner.key}`;
    await caller.send(head('/v1/embeddings', { ...asking, authorization, 'content-length': body.length }));
    await caller.until('100 Continue');
    await caller.send(body);
    await caller.until('"embedding"');
    caller.hangUp();

    const uploader = await wire();
    const form =
      '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n';
    await uploader.send(
      head('/v1/files', {
        authorization,
        'content-type': 'multipart/form-data; boundary=b',
        expect: '100-continue',
        'content-length': form.length,
      }),
    );
    await uploader.until('100 Continue');
    await uploader.send(form);
    await uploader.until('"purpose":"batch"');
    uploader.hangUp();
  });
});

describe('a body of another kind', () => {
  const post = async (
    path: string,
    type: string | null,
    body: string | Uint8Array,
  ): Promise<[number, { message: string; code: string; param: unknown }]> => {
    const answer = await fetch(`${house.url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${owner.key}`, ...(type === null ? {} : { 'content-type': type }) },
      body,
    });
    return [
      answer.status,
      ((await answer.json()) as { error: { message: string; code: string; param: unknown } }).error,
    ];
  };

  it.each([
    ['/v1/chat/completions', 'application/x-www-form-urlencoded'],
    ['/v1/embeddings', 'text/plain;charset=utf-8'],
    ['/v1/batches', 'multipart/form-data; boundary=b'],
    ['/market/v1/quotes', 'application/xml'],
  ])('is refused by POST %s with what was expected and that %s came', async (path, type) => {
    const [status, error] = await post(path, type, '{"model":"use-lite","input":"x"}');
    expect([status, error.code, error.param]).toEqual([415, 'unsupported_content_type', null]);
    expect(error.message).toContain('application/json');
    expect(error.message).toContain(type.split(';')[0]);
  });

  it('is refused when it has no kind at all, and when there is no body', async () => {
    const bytes = new TextEncoder().encode('{"model":"use-lite","input":"x"}');
    const [status, error] = await post('/v1/embeddings', null, bytes);
    expect([status, error.code]).toEqual([415, 'unsupported_content_type']);
    expect(error.message).toMatch(/application\/json.* none came/);
    const [emptyStatus, empty] = await post('/v1/embeddings', 'application/json', '');
    expect([emptyStatus, empty.code, empty.message]).toEqual([
      400,
      'missing_required_parameter',
      expect.stringContaining('JSON'),
    ]);
  });

  it('is named for uploads, too', async () => {
    const [status, error] = await post('/v1/files', 'application/json', '{}');
    expect([status, error.code]).toEqual([415, 'unsupported_content_type']);
    expect(error.message).toMatch(/multipart\/form-data.*application\/json/);
    const [bareStatus, bare] = await post('/v1/files', 'multipart/form-data', 'x');
    expect([bareStatus, bare.code]).toEqual([415, 'unsupported_content_type']);
    expect(bare.message).toContain('boundary');
  });
});

describe('metadata that is no metadata', () => {
  it.each([
    ['too many keys', Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`k${n}`, 'v'])), 'metadata', /16 keys/],
    ['a value too long', { note: 'x'.repeat(513) }, 'metadata.note', /512/],
    ['a key too long', { ['k'.repeat(65)]: 'v' }, 'metadata', /64/],
    ['a number', { note: 5 }, 'metadata.note', /string/],
    ['a list', ['a'], 'metadata', /record|object/],
    ['a text', 'urgent', 'metadata', /record|object/],
  ])('is refused by name: %s', async (_what, metadata, param, message) => {
    for (const [path, body] of [
      ['/v1/batches', { input_file_id: 'file-x', endpoint: '/v1/embeddings', completion_window: '24h', metadata }],
      ['/v1/embeddings', { model: 'use-lite', input: 'x', metadata }],
    ] as const) {
      const answer = await fetch(`${house.url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${owner.key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const { error } = (await answer.json()) as { error: { param: string; message: string } };
      expect([answer.status, error.param]).toEqual([400, param]);
      expect(error.message).toMatch(message);
      expect(error.message).not.toContain("'body'");
    }
  });
});
