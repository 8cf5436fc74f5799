import type { LeaseHead } from './journal.ts';

/** A lease as its first line keeps it; nothing of it matters but that it is whole. */
export const HEAD: LeaseHead = {
  coordinator: '1/none/0x',
  chainId: 1,
  escrow: null,
  task: '11111111-0000-4000-8000-000000000000',
  epoch: 1,
  nonce: '0x00',
  model: 'm',
  digest: 'declared:m',
  engineClass: 'c',
  rates: {},
  rows: 3,
};
