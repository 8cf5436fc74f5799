import { describe, expect, it } from '@jest/globals';
import type { CoordinatorMessage } from '@freehold/protocol';
import type { AcceptanceForNode, SettlementStore, UnkeptAfter } from './ports/settlement-store.ts';
import { PAGE_MS, VoucherPages, type VoucherPagesPorts } from './voucher-pages.ts';

const taskOf = (no: number): string => String(no).padStart(4, '0');

/** A node with so many vouchers that it has not confirmed, and a link that reaches it as long as `reaches` says so. */
function lostVouchers(count: number, reaches: (no: number) => boolean = () => true, isHere = false) {
  const told: string[] = [];
  let nowMs = 0;
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
  const tell = (_node: string, message: CoordinatorMessage): boolean => {
    const task = message.type === 'accepted' ? String(message.receipt['task']) : '';
    const isTold = reaches(Number(task));
    if (isTold) told.push(task);
    return isTold;
  };
  const pages = new VoucherPages(
    {
      settlement,
      signer: { address: '0x' },
      link: { tell, nodes: () => (isHere ? [{ id: 'n' }] : []) },
      clock: { nowMs: () => nowMs },
    } as unknown as VoucherPagesPorts,
    { vouchers: 32, bytes: 1e6 },
  );
  return { pages, told, pass: (ms: number) => void (nowMs += ms) };
}

describe('pages of lost vouchers', () => {
  it('go on at any of the last ones of a page: the node may refuse the very last for good', async () => {
    const { pages, told } = lostVouchers(80);
    await pages.begin('n');
    await pages.kept('n', taskOf(30));
    expect(told).toHaveLength(32);
    await pages.kept('n', taskOf(31));
    expect(told).toHaveLength(64);
    // The page before is over: its last one calls for nothing more.
    await pages.kept('n', taskOf(32));
    expect(told).toHaveLength(64);
  });

  it('go on with whatever the node confirms after a while, where it refused all of the last ones', async () => {
    const { pages, told, pass } = lostVouchers(80);
    await pages.begin('n');
    await pages.kept('n', taskOf(2));
    pass(PAGE_MS);
    expect(told).toHaveLength(32);
    await pages.kept('n', taskOf(900));
    expect(told).toHaveLength(64);
  });

  it('end with the first that cannot be sent, and wait for the next hello', async () => {
    const { pages, told } = lostVouchers(80, (no) => no < 6);
    expect(await pages.begin('n')).toBe(5);
    for (const task of told) await pages.kept('n', task);
    expect(told).toHaveLength(5);
  });

  it('wait for a node that confirms slowly, as long as it goes on', async () => {
    const { pages, told, pass } = lostVouchers(80);
    await pages.begin('n');
    for (let no = 1; no <= 30; no += 1) {
      pass(PAGE_MS / 4);
      await pages.kept('n', taskOf(no));
    }
    expect(told).toHaveLength(32);
    // Work that it did meanwhile says nothing of the page: not before the node is silent about that.
    pass(PAGE_MS / 2);
    await pages.kept('n', taskOf(900));
    expect(told).toHaveLength(32);
    pass(PAGE_MS / 2);
    await pages.kept('n', taskOf(901));
    expect(told).toHaveLength(64);
  });

  it('go on past those that are larger than a frame, be it a whole page of them', async () => {
    const { pages, told } = lostVouchers(80, (no) => no > 40 && no !== 50, true);
    expect(await pages.begin('n')).toBe(23);
    await pages.kept('n', taskOf(64));
    expect(told).toHaveLength(39);
  });
});
