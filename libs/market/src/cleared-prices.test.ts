import { describe, expect, it } from '@jest/globals';
import { ANYWHERE, EMPTY_NODE, placeTasks, type Candidate, type Demand, type Rates } from '@freehold/domain';
import { ClearedPrices, PRICE_TICK_MS } from './cleared-prices.ts';

const node = (nodeId: string, embeddingToken: bigint): Candidate => ({
  ...EMPTY_NODE,
  nodeId,
  models: [{ name: 'm', digest: 'd', engineClass: 'c', loaded: true, rates: { embeddingToken }, rowsPerSecond: 1 }],
});

const job = (jobId: string, embeddingToken: bigint, rows: number, pools: readonly string[] = []): Demand => ({
  ask: {
    ...ANYWHERE,
    jobId,
    model: 'm',
    verify: 'spot',
    rateCaps: { embeddingToken },
    deadlineInMs: 3_600_000,
    pools,
  },
  ageMs: 0,
  nextRow: 0,
  rowCount: rows,
  queued: [],
});

const NODES = [node('cheap', 50n), node('dear', 80n), node('dearest', 500n)];

function rates(prices: ClearedPrices, demands: readonly Demand[], nodes = NODES): readonly Rates[] {
  return prices.ratesFor(placeTasks(demands, nodes), demands, () => nodes);
}

describe('what leases are charged at', () => {
  it('is the highest ask that is needed, for everybody in the tick, each within its own cap', () => {
    const prices = new ClearedPrices({ nowMs: () => 0 });
    const demands = [job('modest', 60n, 8), job('rich', 100n, 500)];
    const placements = placeTasks(demands, NODES);
    const paid = prices.ratesFor(placements, demands, () => NODES);
    const seen = placements.map(({ jobId, nodeId }, i) => `${jobId} on ${nodeId} at ${paid[i]?.embeddingToken}`);
    // The third node is dearer than anybody pays, and sets no price.
    expect([...new Set(seen)].sort()).toEqual(['modest on cheap at 60', 'rich on cheap at 80', 'rich on dear at 80']);
  });

  it('stands for a tick, whatever comes in between, and is made anew in the next', () => {
    let nowMs = 0;
    const prices = new ClearedPrices({ nowMs: () => nowMs });
    const few = [job('few', 1_000n, 8)];
    const many = [job('many', 1_000n, 500)];
    const first = (demands: readonly Demand[]): bigint | undefined => rates(prices, demands)[0]?.embeddingToken;
    expect(first(few)).toBe(50n);
    nowMs = PRICE_TICK_MS - 1;
    expect(first(many)).toBe(50n);
    nowMs = PRICE_TICK_MS;
    expect(first(many)).toBe(500n);
  });

  it('is what the node asks where no market is made: in a pool, and where it is alone', () => {
    const prices = new ClearedPrices({ nowMs: () => 0 });
    const member = { ...node('member', 20n), pools: ['lab'] };
    expect(rates(prices, [job('lab', 100n, 100, ['lab'])], [member, ...NODES])[0]).toEqual({ embeddingToken: 20n });
    expect(rates(prices, [job('alone', 100n, 100)], [node('alone', 70n)])[0]).toEqual({ embeddingToken: 70n });
  });
});
