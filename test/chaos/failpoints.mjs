/**
 * Where a scheduler kills itself: before and after every call that acceptance, verification and settlement make of a port. That
 * each `await` of theirs is among these is what `test/integration/failpoints.test.ts` looks after.
 */
const CALLS = {
  LeaseStore: [
    'start',
    'view',
    'inputs',
    'checkpoint',
    'delivered',
    'saveDraw',
    'findings',
    'saveFindings',
    'accept',
    'grant',
  ],
  ObjectStore: ['append', 'readPieces', 'put'],
  Blocks: ['height', 'hash'],
  Signer: ['sign'],
  SignatureCheck: ['recover'],
  ProviderLink: ['audit', 'runLease'],
  JobStore: ['find', 'results', 'finish'],
  Outbox: ['relay', 'done'],
  SettlementStore: [
    'acceptance',
    'saveSignature',
    'openEpoch',
    'closeEpoch',
    'unanchored',
    'commits',
    'epoch',
    'payeeIndices',
    'payable',
  ],
  ChainHistory: ['blocks', 'absorb'],
  Escrow: ['head', 'bookNow', 'events', 'hashOf'],
  ChainSender: ['submit', 'tick'],
  ChainTransactions: ['find', 'nextNonce', 'save', 'markSent', 'open', 'ofNonce', 'markMined'],
};

export const FAILPOINTS = Object.entries(CALLS).flatMap(([port, methods]) =>
  methods.flatMap((method) => [`${port}.${method}:before`, `${port}.${method}:after`]),
);
