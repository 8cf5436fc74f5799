import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import type { Request } from 'express';
import { receiveForm } from './upload.ts';

let server: Server;
afterEach(() => new Promise((resolve) => server.close(resolve)));

/** Serves one upload with `take`, and sends a form of `bytes` bytes, cut off after `sent` of its body. */
async function send(take: (request: Request) => Promise<string>, bytes: number): Promise<string> {
  server = createServer((request, response) => {
    // All that an upload reads of Express.
    const express = Object.assign(request, { header: (name: string) => request.headers[name] }) as unknown as Request; // what an upload reads
    take(express).then(
      (text) => response.end(text),
      (error: unknown) =>
        response.end(`refused: ${error instanceof Object && 'code' in error ? String(error.code) : String(error)}`),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const form = new FormData();
  form.append('file', new Blob([new Uint8Array(bytes)]), 'dir/..\\evilname.jsonl');
  form.append('purpose', 'batch');
  const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {
    method: 'POST',
    body: form,
  });
  return answer.text();
}

describe('receiving a form', () => {
  it('hands the file over as it comes, and the fields behind it when it has ended', async () => {
    const seen = await send(async (request) => {
      const form = await receiveForm(request);
      let bytes = 0;
      for await (const chunk of form.body) bytes += chunk.length;
      return `${form.filename} ${bytes} ${form.fields()['purpose'] ?? 'none'}`;
    }, 3_000_000);
    expect(seen).toBe('evilname.jsonl 3000000 batch');
  });

  it('lets the client finish when its reader gives up', async () => {
    const seen = await send(async (request) => {
      const whole = once(request, 'end');
      const form = await receiveForm(request);
      for await (const chunk of form.body) if (chunk.length > 0) break;
      await whole;
      return 'the client got rid of all of it';
    }, 20_000_000);
    expect(seen).toBe('the client got rid of all of it');
  }, 20_000);
});
