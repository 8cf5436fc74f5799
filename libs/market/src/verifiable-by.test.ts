import { expect, it } from '@jest/globals';
import type { Offer } from '@freehold/protocol';
import { verifiableBy } from './verifiable-by.ts';

/** As much of an offer as is looked at. */
function offer(payout: string, digest: string, region = 'eu', promptLogprobs = true, more: Partial<Offer> = {}): Offer {
  const models = [{ name: 'm', digest, kind: 'chat', caps: { promptLogprobs } }];
  return { payout, region, isolation: 'none', pools: [], engines: [{ models }], ...more } as unknown as Offer; // the rest of an offer says nothing here
}
const ask = { level: 'quorum', model: 'm', region: null, isolation: 'none', poolId: null } as const;
const none = (): boolean => false;

it('counts operators of one digest together, and weights of another digest never', () => {
  const split = [offer('a', '1'), offer('b', '1'), offer('c', '2')];
  expect(verifiableBy(ask, split, none)).toMatchObject({ possible: false, auditors: 2 });
  expect(verifiableBy(ask, [...split, offer('d', '1')], none)).toMatchObject({ possible: true, auditors: 3 });
});

it('takes one payout for one operator, and engines that cannot score a text for none', () => {
  const nodes = [offer('a', '1'), offer('a', '1'), offer('b', '1')];
  expect(verifiableBy(ask, nodes, none)).toMatchObject({ possible: false, auditors: 2, workers: 2 });
  // It may work, and the two others look at what it did.
  const withDeaf = [...nodes, offer('c', '1', 'eu', false)];
  expect(verifiableBy(ask, withDeaf, none)).toMatchObject({ possible: true, auditors: 2, workers: 3 });
});

it('counts those alone who may see the rows, and our own engine, which has them', () => {
  const nodes = [offer('a', '1', 'us'), offer('b', '1', 'eu'), offer('c', '1', 'eu')];
  const inUs = { ...ask, level: 'strict', region: 'us' } as const;
  expect(verifiableBy(inUs, nodes, none)).toMatchObject({ possible: false, workers: 1, auditors: 1 });
  expect(verifiableBy(inUs, nodes, () => true)).toMatchObject({ possible: true, ownEngine: true });
  expect(verifiableBy(inUs, [...nodes, offer('d', '1', 'us')], none)).toMatchObject({ possible: true, auditors: 2 });
  const [apart, member] = [
    offer('e', '1', 'us', true, { isolation: 'kata' }),
    offer('f', '1', 'us', true, { pools: ['p'] }),
  ];
  expect(verifiableBy({ ...ask, isolation: 'container' }, [...nodes, apart], none)).toMatchObject({ auditors: 1 });
  expect(verifiableBy({ ...ask, poolId: 'p' }, [...nodes, member], none)).toMatchObject({ auditors: 1, workers: 1 });
});
