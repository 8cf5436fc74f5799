import { beforeEach, describe, expect, it } from '@jest/globals';
import { auditorsOver, LEASE, node } from './auditors.fixture.ts';
import { AUDITOR_RETURN_MS, type Auditors } from './choose-auditor.ts';
import type { Engine } from './ports/engine.ts';
import type { LeaseView } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';

it('an auditor that can replay sampled rows comes first, one of the same class second, one without a seed last', async () => {
  const nodes = [node('seedless', 'c', false), node('other', 'd', true), node('same', 'c', true)];
  expect(await inTurn(nodes, LEASE)).toEqual(['same', 'other', 'seedless']);
});

it('rows that an adapter answered are run again by those who take adapters', async () => {
  const nodes = [node('bare', 'c', true), node('dressed', 'd', false, true)];
  expect(await inTurn(nodes, { ...LEASE, adapter: 'ab'.repeat(32) })).toEqual(['dressed']);
});

describe('rows that may not be everywhere', () => {
  const engine = { describe: () => Promise.resolve({ models: [] }) } as unknown as Engine; // only described here
  const standing = (id: string, where: object): ConnectedNode => {
    const there = node(id, 'c', true);
    return { ...there, offer: { ...there.offer, ...where } };
  };
  const accused = standing('accused', {});
  const inside = standing('inside', { region: 'us', isolation: 'gvisor', pools: ['p'] });
  const elsewhere = [
    standing('abroad', { region: 'eu', isolation: 'gvisor', pools: ['p'] }),
    standing('open', { region: 'us', isolation: 'bwrap', pools: ['p'] }),
    standing('stranger', { region: 'us', isolation: 'gvisor', pools: ['q'] }),
  ];
  const lease: LeaseView = { ...LEASE, region: 'us,ap', isolation: 'container', poolId: 'p' };

  it('are run again where the job allows them alone, be the others as fit as they like', async () => {
    expect(await inTurn([accused, ...elsewhere, inside], lease)).toEqual(['inside']);
    expect(await inTurn([accused, ...elsewhere], { ...lease, region: null })).toEqual(['abroad']);
    expect(await inTurn([accused, ...elsewhere], { ...lease, isolation: 'none' })).toEqual(['open']);
    expect(await inTurn([accused, ...elsewhere], { ...lease, poolId: null })).toEqual(['stranger']);
  });

  it("are run by the coordinator's own engine, which has them anyway, where nobody may see them", async () => {
    const own = { engine, engineClass: 'c' };
    const auditors = auditorsOver(() => [accused, ...elsewhere], { localEngine: () => Promise.resolve(own) });
    expect((await auditors.next(lease, new Set()))?.id).toBe('coordinator');
    expect(await auditors.next(lease, new Set(['coordinator']))).toBeNull();
  });

  it('have no auditor, and wait for none, where neither is there: not for one that was, nor for one that posted an offer', async () => {
    let nodes = [accused, ...elsewhere];
    const auditors = auditorsOver(() => nodes, {
      offers: {
        offers: () =>
          Promise.resolve([accused, ...elsewhere].map(({ id, address, offer }) => ({ ...offer, node: id, address }))),
      },
    });
    auditors.look();
    nodes = [accused];
    expect(await auditors.next(lease, new Set())).toBeNull();
    expect(await auditors.anyFor(lease)).toBe(false);
    nodes = [accused, inside];
    expect(await auditors.anyFor(lease)).toBe(true);
  });
});

async function inTurn(nodes: readonly ConnectedNode[], lease: LeaseView): Promise<string[]> {
  const auditors = auditorsOver(() => nodes);
  const used = new Set<string>();
  for (let next = await auditors.next(lease, used); next !== null; next = await auditors.next(lease, used))
    used.add(next.id);
  return [...used];
}

it('nobody looks at its own work: not its node, its operator or who is paid at its address, nor who is benched', async () => {
  const same = { ...node('b', 'c', true), address: '0xa' };
  const paidTogether = node('d', 'c', true);
  const nodes = [
    node('accused', 'c', true),
    same,
    { ...paidTogether, offer: { ...paidTogether.offer, payout: '0xa' } },
    node('benched', 'c', true),
  ];
  const auditors = auditorsOver(() => nodes, { benched: () => Promise.resolve(new Set(['benched'])) });
  expect(await auditors.next(LEASE, new Set())).toBeNull();
  expect(await auditors.anyFor(LEASE)).toBe(false);
  nodes.push(node('other', 'c', true));
  expect((await auditors.next(LEASE, new Set()))?.id).toBe('other');
});

it('two nodes of one operator are asked for one opinion', async () => {
  const [first, second] = [node('first', 'c', true), node('second', 'c', true)];
  const nodes = [first, { ...second, offer: { ...second.offer, payout: first.offer.payout } }];
  const auditors = auditorsOver(() => nodes);
  expect((await auditors.next(LEASE, new Set()))?.id).toBe('first');
  expect(await auditors.next(LEASE, new Set(['first']))).toBeNull();
  nodes.push(node('other', 'd', false));
  expect((await auditors.next(LEASE, new Set(['second'])))?.id).toBe('other');
});

describe('that nobody can audit', () => {
  let nowMs = 0;
  let nodes: ConnectedNode[] = [];
  let posted: ConnectedNode[] = [];
  const auditors = (): Auditors =>
    auditorsOver(() => nodes, {
      clock: { nowMs: () => nowMs },
      offers: {
        offers: () => Promise.resolve(posted.map(({ id, address, offer }) => ({ ...offer, node: id, address }))),
      },
    });
  const accused = { ...node('accused', 'c', true), address: '0xa' };
  const other = node('other', 'c', true);

  beforeEach(() => {
    nowMs = 0;
    nodes = [accused];
    posted = [accused, other];
  });

  it('is not said right after a start, while known auditors come back', async () => {
    const chosen = auditors();
    expect(await chosen.anyFor(LEASE)).toBe(true);
    nowMs = AUDITOR_RETURN_MS + 1;
    expect(await chosen.anyFor(LEASE)).toBe(false);
  });

  it('is said at once where no other operator ever posted an offer', async () => {
    posted = [accused];
    expect(await auditors().anyFor(LEASE)).toBe(false);
  });

  it("is not said while an auditor's line is down for a moment", async () => {
    const chosen = auditors();
    nowMs = 60_000;
    nodes = [accused, other];
    chosen.look();
    nodes = [accused];
    expect(await chosen.anyFor(LEASE)).toBe(true);
    nowMs += AUDITOR_RETURN_MS + 1;
    expect(await chosen.anyFor(LEASE)).toBe(false);
  });

  it('is not said by a process that sees no node at all', async () => {
    const chosen = auditors();
    nowMs = 600_000;
    nodes = [];
    expect(await chosen.anyFor(LEASE)).toBe(true);
  });

  it('is said although somebody is here who is benched', async () => {
    nowMs = 0;
    posted = [accused, other];
    nodes = [accused, other];
    const benched = auditorsOver(() => nodes, {
      benched: () => Promise.resolve(new Set(['other'])),
      clock: { nowMs: () => nowMs },
    });
    expect(await benched.anyFor(LEASE)).toBe(false);
  });
});

it('who is right is asked of the own engine first, once; where it lacks the model, of nodes', async () => {
  const nodes = [node('other', 'c', true)];
  const engine = { describe: () => Promise.resolve({ models: [] }) } as unknown as Engine; // only described here
  const auditorsWith = (own: { engine: Engine; engineClass: string } | null): Auditors =>
    auditorsOver(() => nodes, { localEngine: () => Promise.resolve(own) });
  const own = auditorsWith({ engine, engineClass: 'c' });
  expect((await own.next(LEASE, new Set(), true))?.id).toBe('coordinator');
  expect((await own.next(LEASE, new Set(['coordinator']), true))?.id).toBe('other');
  expect((await own.next(LEASE, new Set()))?.id).toBe('other');
  expect((await auditorsWith(null).next(LEASE, new Set(), true))?.id).toBe('other');
});
