import { beforeEach, describe, expect, it } from '@jest/globals';
import { blobName, LENT_MS, ObjectDesk } from './object-desk.ts';
import type { ObjectStore } from './ports/object-store.ts';

const OBJECT = 'ab'.repeat(32);
const clock = { nowMs: () => nowMs };
let nowMs = 0;
let there: Map<string, number>;
let desk: ObjectDesk;

beforeEach(() => {
  nowMs = 0;
  there = new Map([[blobName(OBJECT), 10]]);
  const objects: Pick<ObjectStore, 'size' | 'read'> = {
    size: (name) => Promise.resolve(there.get(name) ?? null),
    read: async function* () {
      yield new Uint8Array(10);
    },
  };
  desk = new ObjectDesk(objects as ObjectStore, clock);
});

describe('a node reads', () => {
  it('what was lent to it, for as long as it was lent, and nobody else does', async () => {
    expect(await desk.read('n', OBJECT)).toBeNull();
    desk.lend('n', [OBJECT]);
    expect(await desk.read('n', OBJECT)).toMatchObject({ bytes: 10 });
    expect(await desk.read('other', OBJECT)).toBeNull();
    nowMs = LENT_MS;
    expect(await desk.read('n', OBJECT)).not.toBeNull();
    nowMs = LENT_MS + 1;
    expect(await desk.read('n', OBJECT)).toBeNull();
  });

  it('nothing that is not there, though it was lent: the answer is the same', async () => {
    desk.lend('n', ['cd'.repeat(32)]);
    expect(await desk.read('n', 'cd'.repeat(32))).toBeNull();
  });

  it('the newest 256 of what was lent to it', async () => {
    const many = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(64, '0'));
    desk.lend('n', [OBJECT, ...many]);
    expect(await desk.read('n', OBJECT)).toBeNull();
    desk.lend('n', [OBJECT]);
    expect(await desk.read('n', OBJECT)).not.toBeNull();
  });
});

describe('a node brings', () => {
  const NEW = 'ef'.repeat(32);
  const noted: string[] = [];
  const note = (sha256: string): Promise<void> => Promise.resolve(void noted.push(sha256));

  it('nothing without a lease, and nothing more when its lease is over', async () => {
    expect(await desk.mayBring('n', NEW, 1)).toMatchObject({ kept: false, code: 'NOT_EXPECTED' });
    const lease = desk.expect('n', 5, note);
    expect(await desk.mayBring('other', NEW, 1)).toMatchObject({ kept: false, code: 'NOT_EXPECTED' });
    expect(await desk.mayBring('n', NEW, 1)).toBeNull();
    lease.end();
    expect(await desk.mayBring('n', NEW, 1)).toMatchObject({ kept: false, code: 'NOT_EXPECTED' });
  });

  it('as many bytes as its lease has left, however many streams ask at once', async () => {
    desk.expect('n', 5, note);
    const answers = await Promise.all([desk.mayBring('n', NEW, 3), desk.mayBring('n', OBJECT, 3)]);
    expect(answers.filter((answer) => answer === null)).toHaveLength(1);
    expect(await desk.mayBring('n', NEW, 2)).toBeNull();
    expect(await desk.mayBring('n', NEW, 1)).toMatchObject({ code: 'NOT_EXPECTED' });
  });

  it('nothing twice: what is there is kept, and costs nothing of what is left', async () => {
    desk.expect('n', 10, note);
    for (let i = 0; i < 3; i += 1) expect(await desk.mayBring('n', OBJECT, 10)).toEqual({ kept: true });
    noted.length = 0;
    expect(await desk.mayBring('n', NEW, 10)).toBeNull();
    // Known before its bytes come, so that nothing lies there that nobody knows of.
    expect(noted).toEqual([NEW]);
  });
});
