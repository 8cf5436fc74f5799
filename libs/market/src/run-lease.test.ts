import { expect, it } from '@jest/globals';
import type { GrantedLease } from './ports/lease-store.ts';
import { runLease, type RunLeasePorts } from './run-lease.ts';

const LEASE = {
  ...{ task: '00000000-0000-4000-8000-000000000001', epoch: 1, jobId: 'j', nodeId: 'n', nonce: '0x', model: 'm' },
  ...{ digest: 'd', engineClass: 'c', rates: {}, rowFrom: 0, rowTo: 3 },
} as unknown as GrantedLease; // what running it reads

/** A lease of which `done` rows came before: from which row on it is streamed, and how often that was asked for. */
async function streamedFrom(done: number, isStarted: boolean): Promise<{ from: number | null; asked: number }> {
  let from: number | null = null;
  let asked = 0;
  const rows = Array.from({ length: done }, (_, rowNo) => ({
    ...{ rowNo, offset: rowNo, length: 1, succeeded: true, usage: {} },
    leafHash: new Uint8Array(32),
  }));
  const ports = {
    leases: {
      view: async () => ({
        ...LEASE,
        ...{ taskEpoch: 1, committed: false, kind: 'batch', address: '0x', state: isStarted ? 'leased' : 'running' },
      }),
      start: async () => (isStarted ? { moved: true } : { moved: false, why: 'moved-by-another' }),
      delivered: async () => {
        asked += 1;
        return rows;
      },
    },
    link: {
      runLease: async (_grant: unknown, at: number) => {
        from = at;
        return { end: 'committed' };
      },
    },
  };
  await runLease(ports as unknown as RunLeasePorts, LEASE, new AbortController().signal); // all that it reaches
  return { from, asked };
}

it('asks what came of a lease that ran before, and not of one that it has just started', async () => {
  expect(await streamedFrom(0, true)).toEqual({ from: 0, asked: 0 });
  expect(await streamedFrom(2, false)).toEqual({ from: 2, asked: 1 });
});
