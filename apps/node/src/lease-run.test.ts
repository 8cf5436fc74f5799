import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, expect, it } from '@jest/globals';
import type { RowsFromNode } from '@freehold/protocol';
import type { RowsCall } from '@freehold/wiring/node';
import { LeaseJournal } from './journal.ts';
import { LeaseRun } from './lease-run.ts';
import { TinyEngine } from './market.fixture.ts';
import { Slots } from './slots.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-run-'));
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
