import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, expect, it, jest } from '@jest/globals';
import type { RowsFromNode } from '@freehold/protocol';
import type { RowsCall } from '@freehold/wiring/node';
import { LeaseJournal } from './journal.ts';
import { HEAD } from './lease-head.fixture.ts';
import { LeaseRun } from './lease-run.ts';
import { TinyEngine } from './market.fixture.ts';
import { Slots } from './slots.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-run-'));
afterEach(() => void jest.restoreAllMocks());
afterAll(() => rmSync(folder, { recursive: true }));

it('a lease takes inputs that were under way when it said its last word as nobody’s fault', async () => {
  const [task, nonce, digest] = ['11111111-0000-4000-8000-000000000000', `0x${'00'.repeat(16)}`, 'declared:vectors'];
  const head = { task, epoch: 1, nonce, model: 'vectors', digest, engineClass: 'tiny/1', rates: {}, rows: 9 };
  const journal = await LeaseJournal.create(folder, {
    ...head,
    coordinator: '1/none/0x',
    chainId: 1,
    escrow: null,
  });
  const run = new LeaseRun(journal, {
    engine: new TinyEngine(),
    slots: new Slots(1, 50, () => undefined),
    signer: { address: '0x', sign: () => Promise.reject(new Error('nothing was done that could be signed')) },
    starvedMs: 1_000,
    onRows: () => undefined,
    onSigning: () => undefined,
    bring: () => Promise.resolve(),
    onEnd: () => undefined,
  });
  const sent: RowsFromNode['type'][] = [];
  const aborted: string[] = [];
  let next = 0;
  const call: RowsCall = {
    peer: 'coordinator',
    lease: { ...head, type: 'lease', from: 0, leaseMs: 30_000 },
    receive: async () => {
      while (run.active) await setImmediate();
      const index = next++;
      return index < 3 ? { type: 'input', index, rowNo: index, work: { kind: 'embedding', inputs: ['late'] } } : null;
    },
    send: (message) => Promise.resolve(void sent.push(message.type)),
    close: () => Promise.resolve(),
    abort: (why) => void aborted.push(why),
  };
  const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const timersBefore = timers();
  run.yield();
  await run.serve(call);
  expect({ sent, aborted, next, state: run.state }).toEqual({
    sent: ['started', 'yielded'],
    aborted: [],
    next: 4,
    state: 'yielded',
  });
  // A node lives through many thousand leases: what one leaves ticking, ticks until the node ends.
  expect(timers()).toBeLessThanOrEqual(timersBefore);
  await run.close();
});

it('a lease whose line is slow signs what has gone out every few seconds, and hands back in time what has not', async () => {
  const task = '22222222-0000-4000-8000-000000000000';
  const head = { ...HEAD, task, nonce: `0x${'00'.repeat(16)}`, model: 'vectors', rows: 9 };
  const run = new LeaseRun(await LeaseJournal.create(folder, head), {
    engine: new TinyEngine(),
    slots: new Slots(1, 50, () => undefined),
    signer: { address: '0x', sign: () => Promise.resolve('0x') },
    starvedMs: 1_000,
    onRows: () => undefined,
    onSigning: () => undefined,
    bring: () => Promise.resolve(),
    onEnd: () => undefined,
  });
  let lateMs = 0;
  const now = performance.now.bind(performance);
  jest.spyOn(performance, 'now').mockImplementation(() => now() + lateMs);
  const sent: string[] = [];
  let next = 0;
  const call: RowsCall = {
    peer: 'coordinator',
    lease: { ...head, type: 'lease', from: 0, leaseMs: 30_000 },
    receive: async () => {
      const index = next++;
      while (index >= 5 && run.active) await setImmediate();
      return index < 5 ? { type: 'input', index, rowNo: index, work: { kind: 'embedding', inputs: ['row'] } } : null;
    },
    send: async (message) => {
      sent.push(message.type === 'checkpoint' ? `signed ${message.n}` : message.type);
      if (message.type !== 'result') return;
      while (run.done < 5) await setImmediate();
      lateMs += 8_000;
      run.yield();
    },
    close: () => Promise.resolve(),
    abort: () => undefined,
  };
  await run.serve(call);
  expect(sent).toEqual(['started', ...['result', 'signed 1', 'result', 'signed 2', 'result', 'signed 3'], 'yielded']);
  expect([run.state, run.done, run.signedRows]).toEqual(['yielded', 5, 3]);
  await run.close();
});
