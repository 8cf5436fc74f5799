import { createHash } from 'node:crypto';
import { appendFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ObjectMissing, ObjectTooLarge } from '@freehold/market';
import { DiskObjectStore } from './disk-object-store.ts';

let root: string;
let store: DiskObjectStore;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'freehold-objects-'));
  store = new DiskObjectStore(root, 'test');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

async function* bytesOf(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield Buffer.from(part);
}
async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of body) parts.push(part);
  return Buffer.concat(parts).toString();
}

describe('DiskObjectStore', () => {
  it('gives back what was put, whole or in part, with its hash', async () => {
    const put = await store.put('files/a', bytesOf('hello ', 'world'), 100);
    expect(put.bytes).toBe(11);
    expect(Buffer.from(put.sha256)).toEqual(createHash('sha256').update('hello world').digest());
    expect(await textOf(store.read('files/a'))).toBe('hello world');
    expect(await textOf(store.read('files/a', { from: 6, to: 9 }))).toBe('wor');
    expect(await store.size('files/a')).toBe(11);
  });

  it('leaves nothing of an object that is too large or whose stream breaks', async () => {
    await expect(store.put('files/b', bytesOf('12345', '6'), 5)).rejects.toThrow(ObjectTooLarge);
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('half');
      throw new Error('gone');
    }
    await expect(store.put('files/b', broken(), 100)).rejects.toThrow('gone');
    expect(await store.size('files/b')).toBeNull();
    expect(readdirSync(join(root, '.unfinished', 'test'))).toEqual([]);
  });

  it('replaces an object only when the new one is whole', async () => {
    await store.put('files/c', bytesOf('first'), 100);
    await expect(store.put('files/c', bytesOf('second, longer'), 6)).rejects.toThrow(ObjectTooLarge);
    expect(await textOf(store.read('files/c'))).toBe('first');
  });

  it('reads pieces in the order asked, near and far', async () => {
    const text = Array.from({ length: 60_000 }, (_, i) => String(i % 10)).join('');
    await store.put('files/d', bytesOf(text), 100_000);
    const pieces = [
      { offset: 5, length: 3 },
      { offset: 8, length: 0 },
      { offset: 10, length: 4 },
      { offset: 59_990, length: 10 },
      { offset: 0, length: 2 },
    ];
    const found = await store.readPieces('files/d', pieces);
    expect(found.map((piece) => Buffer.from(piece).toString())).toEqual(
      pieces.map(({ offset, length }) => text.slice(offset, offset + length)),
    );
    await expect(store.readPieces('files/d', [{ offset: 59_999, length: 2 }])).rejects.toThrow(/ends at/);
  });

  it('writes at an offset, over what a crash left there', async () => {
    expect(await store.append('segments/t.1', 0, [Buffer.from('aa'), Buffer.from('bb')])).toBe(4);
    appendFileSync(join(root, 'segments/t.1'), 'torn');
    expect(await store.append('segments/t.1', 4, [Buffer.from('cccc')])).toBe(8);
    expect(await textOf(store.read('segments/t.1'))).toBe('aabbcccc');
    await expect(store.append('segments/t.1', 9, [Buffer.from('x')])).rejects.toThrow(/cannot append at 9/);
  });

  it('cuts nothing away when a process that was stopped in between says late what its successor said already', async () => {
    await store.append('segments/t.1', 0, [Buffer.from('aa')]);
    await store.append('segments/t.1', 2, [Buffer.from('bb'), Buffer.from('cc')]);
    expect(await store.append('segments/t.1', 2, [Buffer.from('bb')])).toBe(4);
    expect(await textOf(store.read('segments/t.1'))).toBe('aabbcc');
  });

  it('says what is missing, and removes twice without complaint', async () => {
    await expect(textOf(store.read('files/none'))).rejects.toThrow(ObjectMissing);
    await expect(store.readPieces('files/none', [{ offset: 0, length: 1 }])).rejects.toThrow(ObjectMissing);
    await store.remove('files/none');
    await store.remove('files/none');
  });

  it.each(['../x', 'files/../x', 'files/.x', '/etc/passwd', 'files/a/b', 'files/', 'Files/x', 'files/a\0'])(
    'refuses the name %j',
    async (name) => {
      await expect(store.put(name, bytesOf('x'), 10)).rejects.toThrow(/expected folder\/name/);
    },
  );

  it('clears what an earlier process of the same name left unfinished, and nothing of others', () => {
    writeFileSync(join(root, '.unfinished', 'test', 'left'), 'x');
    new DiskObjectStore(root, 'other');
    expect(readdirSync(join(root, '.unfinished', 'test'))).toEqual(['left']);
    new DiskObjectStore(root, 'test');
    expect(readdirSync(join(root, '.unfinished', 'test'))).toEqual([]);
  });
});
