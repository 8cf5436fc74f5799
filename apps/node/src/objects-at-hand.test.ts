import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import { ObjectsAtHand, type ObjectRoad } from './objects-at-hand.ts';

const root = mkdtempSync(join(tmpdir(), 'freehold-objects-'));
const never = new AbortController().signal;
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const newFolder = (): string => mkdtempSync(join(root, 'node-'));

/** Coordinators by name, each giving what it has under a hash, whether it is that or not. */
function roadTo(lent: Readonly<Record<string, Readonly<Record<string, string>>>>): ObjectRoad & { asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    peers: () => Object.keys(lent),
    fetch: async function* (peer, name) {
      asked.push(peer);
      const text = lent[peer]?.[name];
      if (text === undefined) throw new Error(`${peer} did not lend it`);
      for (const letter of text) yield new TextEncoder().encode(letter);
    },
    bring: async () => undefined,
  };
}

describe('the objects of a node', () => {
  afterAll(() => rmSync(root, { recursive: true }));

  it('are fetched once for all who ask, from the process that lent them, and then are here', async () => {
    const road = roadTo({ a: {}, b: { [sha256('data')]: 'data' } });
    const folder = newFolder();
    const objects = await ObjectsAtHand.open(folder);
    objects.connect(road);
    const given = new AbortController();
    const all = [given.signal, never, never].map((signal) => objects.path(sha256('data'), signal));
    given.abort(new Error('not wanted any more'));
    await expect(all[0]).rejects.toThrow('not wanted any more');
    const path = await all[1];
    expect(await all[2]).toBe(path);
    expect(readFileSync(path ?? '', 'utf8')).toBe('data');
    expect(road.asked).toEqual(['a', 'b']);
    const again = await ObjectsAtHand.open(folder);
    expect(await again.path(sha256('data'), never)).toBe(path);
  });

  it('are never what they do not hash to, and drafts of a crash do not stay', async () => {
    const folder = newFolder();
    const objects = await ObjectsAtHand.open(folder);
    objects.connect(roadTo({ liar: { [sha256('data')]: 'other' } }));
    await expect(objects.path(sha256('data'), never)).rejects.toThrow(/what came hashes to/);
    expect(readdirSync(objects.folder)).toEqual([]);
    writeFileSync(join(objects.folder, '.draft'), 'half');
    await ObjectsAtHand.open(folder);
    expect(readdirSync(objects.folder)).toEqual([]);
  });

  it('make room for what is trained here as for what is fetched, the ones unused for longest first, never what may be open', async () => {
    const folder = newFolder();
    const objects = await ObjectsAtHand.open(folder, 10);
    const adopt = async (text: string): Promise<string> => {
      const draft = join(folder, 'draft');
      writeFileSync(draft, text);
      await objects.adopt(draft, sha256(text));
      return join(objects.folder, sha256(text));
    };
    const [oldest, older, young] = [await adopt('aaaa'), await adopt('bbbb'), await adopt('cccc')];
    expect([oldest, older, young].map((path) => existsSync(path))).toEqual([true, true, true]);
    utimesSync(oldest, 1_000, 1_000);
    utimesSync(older, 2_000, 2_000);
    await objects.path(sha256('aaaa'), never);
    await adopt('dddd');
    expect([oldest, older, young].map((path) => existsSync(path))).toEqual([true, false, true]);
  });
});
