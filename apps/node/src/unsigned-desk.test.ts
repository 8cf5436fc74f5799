import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { identityOf, signingWith, type ChatCall } from '@freehold/wiring/node';
import { Coordinators } from './coordinators.ts';
import { CHAT_WORK, DOMAIN, newFolder, newKey, NEVER, removeFolders, TinyEngine } from './market.fixture.ts';
import { Seats } from './seats.ts';
import { serveChat } from './serve-chat.ts';
import { UnsignedDesk } from './unsigned-desk.ts';

const RATES = { embeddingToken: '1000000' };
const TASK = '11111111-0000-4000-8000-000000000000';
const WORTH = 30n;

describe('a node counts what it answered and nobody signed', () => {
  let dataDir: string;
  let desk: UnsignedDesk;
  const answer = (task: string): void => desk.answered(task, 'c', { embeddingToken: 30n }, RATES);
  const written = async (): Promise<string> => {
    await desk.kept();
    return await readFile(join(dataDir, 'unsigned.json'), 'utf8').catch(() => 'nothing');
  };

  beforeEach(async () => {
    dataDir = await newFolder();
    desk = await UnsignedDesk.open({ dataDir, max: 2n * WORTH, inHand: () => [], log: () => undefined });
  });
  afterAll(removeFolders);

  it('once, when a chat is accepted without a voucher, and what it is worth by its own reckoning', async () => {
    answer(TASK);
    expect(desk.owed('c')).toBe(WORTH);
    desk.unpaid(TASK, 'c');
    expect([desk.owed('c'), desk.refusal('c')]).toEqual([WORTH, null]);
    await expect(written()).resolves.toContain(TASK);
    desk.signed(TASK);
    expect(desk.owed('c')).toBe(0n);
  });

  it('and nothing that it never worked on, nor what another coordinator says of it', async () => {
    desk.unpaid('made-up', 'c');
    answer(TASK);
    desk.unpaid(TASK, 'another');
    expect([desk.owed('c'), desk.owed('another')]).toEqual([WORTH, 0n]);
    await expect(written()).resolves.toBe('nothing');
  });

  it('and what is worth nothing without owing for it: words about it are words about its work, once and from who had it', async () => {
    desk.answered(TASK, 'c', { embeddingToken: 30n }, { embeddingToken: '0' });
    desk.unpaid(TASK, 'another');
    expect([desk.owed('c'), desk.knows(TASK, 'c'), desk.knows(TASK, 'another')]).toEqual([0n, true, false]);
    desk.unpaid(TASK, 'c');
    expect([desk.owed('c'), desk.knows(TASK, 'c')]).toEqual([0n, false]);
    desk.answered(TASK, 'c', { embeddingToken: 30n }, { embeddingToken: '0' });
    desk.unanswered(TASK);
    expect(desk.knows(TASK, 'c')).toBe(false);
    await expect(written()).resolves.toBe('nothing');
  });

  it.each(['sent', 'cut'] as const)('before the answer is %s: a voucher may be faster', async (fate) => {
    const key = newKey();
    const coordinators = new Coordinators(signingWith(key), { chainId: null, escrow: null });
    const coordinator = coordinators.at(DOMAIN.chainId, DOMAIN.escrow, identityOf(key).address);
    const seats = await Seats.describe([new TinyEngine()], {
      rates: {},
      slots: null,
      chatSharePercent: 50,
      model: null,
      onChange: () => undefined,
    });
    const told: string[] = [];
    const request: ChatCall['request'] = {
      type: 'request',
      id: 1,
      lease: { task: TASK, epoch: 1 },
      nonce: `0x${'00'.repeat(16)}`,
      model: 'words',
      digest: 'declared:words',
      rates: {},
      work: CHAT_WORK,
      deadlineMs: 1_000,
    };
    const send: ChatCall['send'] = async ({ type }) => {
      if (type !== 'done') return;
      told.push(type);
      if (fate === 'cut') throw new Error('the stream is cut');
    };
    const serving = serveChat(
      { peer: 'p', request, signal: NEVER, send },
      coordinator,
      seats.seatFor('words', 'declared:words', {}),
      { answered: () => void told.push('counted'), unanswered: () => void told.push('taken back') },
    );
    if (fate === 'cut') await expect(serving).rejects.toThrow('cut');
    else await serving;
    expect(told).toEqual(fate === 'cut' ? ['counted', 'done', 'taken back'] : ['counted', 'done']);
  });
});
