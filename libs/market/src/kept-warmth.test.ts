import { beforeEach, describe, expect, it } from '@jest/globals';
import { ANYWHERE, EMPTY_NODE, LOAD_ASSUMED_S, Placer, WARM_WAIT_LOADS_MAX, type Demand } from '@freehold/domain';
import { KeptWarmth } from './kept-warmth.ts';

const caps = { embeddingToken: 10n };
const model = (name: string, loaded: boolean) => ({
  name,
  digest: name,
  engineClass: 'c',
  loaded,
  rates: caps,
  rowsPerSecond: 1,
});
const holder = { ...EMPTY_NODE, nodeId: 'holder', models: [model('m', true), model('other', false)] };
const idle = { ...EMPTY_NODE, nodeId: 'idle', models: [model('m', false), model('other', true)] };

describe('warmth, as the scheduler keeps it', () => {
  let nowMs: number;
  let warmth: KeptWarmth;
  let placer: Placer;
  beforeEach(() => {
    nowMs = 1_000_000;
    warmth = new KeptWarmth({ nowMs: () => nowMs });
    placer = new Placer();
  });

  const demand = (rowCount: number, ageMs = 0): Demand => ({
    ask: { ...ANYWHERE, jobId: 'j', model: 'm', verify: 'spot', rateCaps: caps, deadlineInMs: 86_400_000 },
    ageMs,
    nextRow: 0,
    rowCount,
    queued: [],
  });
  /** One decision over the holder, with so many leases, and the idle node. */
  const decide = (wish: Demand, leases: number): string[] => {
    const nodes = [{ ...holder, leasesActive: leases }, idle];
    warmth.look(() => nodes.map((node) => warmth.priced(node)), [wish], true);
    for (const node of nodes) placer.put(warmth.priced(node));
    const placements = placer.place([warmth.gained(wish)]);
    warmth.leased(placements);
    return placements.map(({ nodeId }) => nodeId);
  };

  it('leaves an idle node alone for a slot that comes free sooner than a load, for a bounded time', () => {
    expect(decide(demand(8), 2)).toEqual([]);
    expect(decide(demand(8, WARM_WAIT_LOADS_MAX * LOAD_ASSUMED_S * 1_000), 2)).toEqual(['idle']);
  });

  it('takes a node that got work for a model as one that has it, until it had none for a while', () => {
    expect(decide(demand(100_000), 2)).toEqual(['idle']);
    // Its offer still says otherwise.
    expect(decide(demand(8), 2)).toEqual(['idle']);
    nowMs += 10 * LOAD_ASSUMED_S * 1_000;
    expect(decide(demand(8), 2)).toEqual([]);
  });

  it('asks nothing of a market in which every node has its models loaded', () => {
    expect(warmth.look(() => [], [demand(8)], false)).toBe(false);
    expect(warmth.gained(demand(8)).ask.loadGainS).toBeUndefined();
  });
});
