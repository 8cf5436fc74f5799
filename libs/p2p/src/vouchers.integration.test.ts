import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  VoucherPages,
  type AcceptanceForNode,
  type SettlementStore,
  type UnkeptAfter,
  type VoucherPagesPorts,
} from '@freehold/market';
import { CONTROL_FRAME_BYTES_MAX } from '@freehold/protocol';
import { LINK_LIMITS } from './coordinator/limits.ts';
import type { Libp2pProviderLink } from './coordinator/libp2p-provider-link.ts';
import type { LinkNote } from './coordinator/options.ts';
import { coordinator, eventually, newKey, node, TestDuties, TestEvents } from './loopback.fixture.ts';
import type { NodeLink } from './node/node-link.ts';

/** More than a flood's allowance, and several pages. */
const LOST = 10 * LINK_LIMITS.controlBurst;
const taskOf = (no: number): string => `00000000-0000-4000-8000-${String(no).padStart(12, '0')}`;

describe('vouchers on the line', () => {
  let link: Libp2pProviderLink;
  let events: TestEvents;
  let duties: TestDuties;
  let nodeLink: NodeLink;
  let notes: LinkNote[];

  beforeEach(async () => {
    notes = [];
    events = new TestEvents();
    link = coordinator(newKey(), notes);
    await link.listen(events);
    duties = new TestDuties(newKey());
    nodeLink = node(duties, link.addresses());
    await nodeLink.start();
    await eventually('the node is welcomed', () => link.nodes().length === 1 && nodeLink.connected().length === 1);
  });

  afterEach(async () => {
    await nodeLink.close();
    await link.close();
  });

  const kept = async (task: string): Promise<boolean> => nodeLink.tell(link.peerId(), { type: 'kept', task });
  const cutOff = (): readonly string[] => notes.flatMap(({ event, code }) => (event === 'cut-off' ? [code] : []));

  it('that a node lost come by the thousand, and the node that confirms each of them is not cut off', async () => {
    const pages = pagesOf(LOST, link);
    events.kept = async (nodeId, task) => {
      events.kepts.push(task);
      await pages.kept(nodeId, task);
    };
    duties.told = async (_peer, news) => {
      if (news.type === 'accepted') await kept(String(news.receipt['task']));
    };
    await pages.begin(nodeLink.peerId);
    await eventually('all are confirmed', () => events.kepts.length === LOST || cutOff().length > 0);
    expect(cutOff()).toEqual([]);
    expect(new Set(events.kepts).size).toBe(LOST);
    expect(link.nodes()).toHaveLength(1);
  });

  it('are confirmed once each: what a node says unasked is a flood as before', async () => {
    link.tell(nodeLink.peerId, { type: 'accepted', receipt: { task: taskOf(1) }, voucher: null });
    for (let i = 0; i < 3 * LINK_LIMITS.controlBurst && cutOff().length === 0; i += 1) await kept(taskOf(1));
    await eventually('it is cut off', () => cutOff().length > 0);
    expect(cutOff()).toEqual(['TOO_MANY_MESSAGES']);
  });

  it('are not said to be sent when they are too large for a frame, and the line stays', async () => {
    const receipt = { task: taskOf(1), note: 'x'.repeat(CONTROL_FRAME_BYTES_MAX) };
    expect(link.tell(nodeLink.peerId, { type: 'accepted', receipt, voucher: null })).toBe(false);
    expect(notes.at(-1)).toMatchObject({ event: 'failed', code: 'TELL' });
    expect(link.tell(nodeLink.peerId, { type: 'accepted', receipt: { task: taskOf(2) }, voucher: null })).toBe(true);
    await eventually('the next one is there', () => duties.news.length === 1);
  });
});

/** So many vouchers that one node has not confirmed. */
function pagesOf(count: number, link: Libp2pProviderLink): VoucherPages {
  const acceptanceOf = (no: number): AcceptanceForNode => ({
    ...{ task: taskOf(no), nodeId: 'n', document: { task: taskOf(no) } },
    claim: {
      ...{ book: 'b', epoch: 0n, payee: 'p', order: 0, orderParams: '0x', receipt: '0x', signature: '0x' },
      ...{ cumulative: BigInt(no), total: BigInt(no) },
    },
  });
  const settlement = {
    unkept: async (_of: unknown, limit: number, after?: UnkeptAfter) => {
      const from = Number(after?.total ?? 0n) + 1;
      return Array.from({ length: Math.min(limit, count + 1 - from) }, (_, i) => acceptanceOf(from + i));
    },
    markKept: async () => undefined,
  } as unknown as SettlementStore; // what a page needs of it
  const ports = { settlement, link, signer: { address: '0x' }, clock: { nowMs: () => performance.now() } };
  return new VoucherPages(ports as unknown as VoucherPagesPorts); // nothing is signed here
}
