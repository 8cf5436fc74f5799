import { expect, it } from '@jest/globals';
import { chooseAuditors } from './choose-auditor.ts';
import type { LeaseView } from './ports/lease-store.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';

const LEASE = { nodeId: 'accused', address: '0xa', payout: '0xa', digest: 'd', engineClass: 'c' } as LeaseView;

function node(id: string, engineClass: string, seed: boolean): ConnectedNode {
  const models = [{ digest: 'd', kind: 'chat', caps: { promptLogprobs: true, seed } }];
  const offer = { payout: `0x${id}`, engines: [{ class: engineClass, models }] } as unknown as ConnectedNode['offer'];
  return { id, address: `0x${id}`, offer, freeSlots: 1, busyChats: 0, draining: false, leases: [], lastHeardMs: 0 };
}

it('an auditor that can replay sampled rows comes first, one of the same class second, one without a seed last', async () => {
  const nodes = [node('seedless', 'c', false), node('other', 'd', true), node('same', 'c', true)];
  const auditors = chooseAuditors({
    link: { nodes: () => nodes } as unknown as ProviderLink,
    localEngine: () => Promise.resolve(null),
    benched: () => Promise.resolve(new Set()),
    chance: () => 0,
  });
  const used = new Set<string>();
  for (let next = await auditors.next(LEASE, used); next !== null; next = await auditors.next(LEASE, used))
    used.add(next.id);
  expect([...used]).toEqual(['same', 'other', 'seedless']);
});

it('nobody looks at its own work: not its node, its operator or who is paid at its address, nor who is benched', async () => {
  const same = { ...node('b', 'c', true), address: '0xa' };
  const paidTogether = node('d', 'c', true);
  const nodes = [
    node('accused', 'c', true),
    same,
    { ...paidTogether, offer: { ...paidTogether.offer, payout: '0xa' } },
    node('benched', 'c', true),
  ];
  const auditors = chooseAuditors({
    link: { nodes: () => nodes } as unknown as ProviderLink,
    localEngine: () => Promise.resolve(null),
    benched: () => Promise.resolve(new Set(['benched'])),
    chance: () => 0,
  });
  expect(await auditors.next(LEASE, new Set())).toBeNull();
  expect(await auditors.anyFor(LEASE)).toBe(false);
  nodes.push(node('other', 'c', true));
  expect((await auditors.next(LEASE, new Set()))?.id).toBe('other');
});

it('two nodes of one operator are asked for one opinion', async () => {
  const [first, second] = [node('first', 'c', true), node('second', 'c', true)];
  const nodes = [first, { ...second, offer: { ...second.offer, payout: first.offer.payout } }];
  const auditors = chooseAuditors({
    link: { nodes: () => nodes } as unknown as ProviderLink,
    localEngine: () => Promise.resolve(null),
    benched: () => Promise.resolve(new Set()),
    chance: () => 0,
  });
  expect((await auditors.next(LEASE, new Set()))?.id).toBe('first');
  expect(await auditors.next(LEASE, new Set(['first']))).toBeNull();
  nodes.push(node('other', 'd', false));
  expect((await auditors.next(LEASE, new Set(['second'])))?.id).toBe('other');
});
