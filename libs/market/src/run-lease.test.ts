import { expect, it } from '@jest/globals';
import { GrowingTree } from '@freehold/domain';
import { rowLeafHash } from '@freehold/protocol';
import { toHex } from './hex.ts';
import type { GrantedLease } from './ports/lease-store.ts';
import type { RowInput, RowSink } from './ports/provider-link.ts';
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

it('says how many rows are signed for, and of what is only delivered nothing', async () => {
  const signed: number[] = [];
  const output = { kind: 'failed', code: 'X', message: 'x' };
  const tree = new GrowingTree();
  const places = [0, 1, 2].map((rowNo) => ({ rowNo, customId: `${rowNo}`, offset: rowNo, length: 1 }));
  const work = { kind: 'embedding', inputs: ['x'], dimensions: null };
  const ports = {
    leases: {
      view: async () => ({
        ...LEASE,
        taskEpoch: 1,
        committed: false,
        kind: 'batch',
        address: 'its own',
        adapter: null,
      }),
      start: async () => ({ moved: true }),
      inputs: async () => ({ inputFile: 'f', endpoint: '/v1/embeddings', adapter: null, rows: places }),
      checkpoint: async () => ({ moved: true }),
    },
    objects: { readPieces: async () => places.map(() => new Uint8Array()), append: async () => 0 },
    signatures: { recover: async () => 'its own' },
    readWork: () => work,
    link: {
      runLease: async (_grant: unknown, _at: number, inputs: AsyncIterable<RowInput>, sink: RowSink) => {
        for await (const { index, rowNo, work: asked } of inputs) {
          await sink.results([{ index, output } as never]);
          tree.addHash(rowLeafHash(LEASE.task, rowNo, asked, output as never));
          if (index === 1) await sink.checkpoint({ n: 2, root: toHex(tree.root()), signature: '0x', last: false });
        }
        return { end: 'cut', message: 'after three rows, and two signed for' };
      },
    },
    onSigned: (rows: number) => signed.push(rows),
  };
  await runLease(ports as unknown as RunLeasePorts, LEASE, new AbortController().signal); // all that it reaches
  expect(signed).toEqual([2]);
});
