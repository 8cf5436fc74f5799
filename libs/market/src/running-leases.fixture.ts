import { ANYWHERE, EMPTY_NODE, type Candidate, type Demand } from '@freehold/domain';
import type { GrantedLease } from './ports/lease-store.ts';

/** What tests of leases at work share: a node that serves a model, demand for it, and leases of sixty rows of that demand. */
export const ROWS = 60;
export const HOUR_MS = 3_600_000;
export const MODEL = {
  name: 'm',
  digest: 'd',
  engineClass: 'c',
  loaded: true,
  rates: { embeddingToken: 1n },
  rowsPerSecond: 1,
};

export function node(nodeId: string, over: Partial<Candidate> = {}): Candidate {
  return { ...EMPTY_NODE, nodeId, models: [MODEL], ...over };
}

export function demand(jobId: string, over: Partial<Demand> & { readonly hours?: number } = {}): Demand {
  const { hours = 24, ...more } = over;
  const caps = { rateCaps: { embeddingToken: 10n }, deadlineInMs: hours * HOUR_MS };
  const ask = { ...ANYWHERE, jobId, model: 'm', verify: 'spot' as const, ...caps };
  return { ask, ageMs: 0, nextRow: 0, rowCount: ROWS, queued: [], ...more };
}

export function lease(jobId: string, over: Partial<GrantedLease> = {}): GrantedLease {
  const made = { task: jobId, epoch: 1, jobId, nodeId: 'n', nonce: '0x', model: 'm', digest: 'd', engineClass: 'c' };
  const rowFrom = over.rowFrom ?? 0;
  return { ...made, rates: {}, rowFrom, rowTo: rowFrom + ROWS, ...over };
}
