import { describe, expect, it } from '@jest/globals';
import { inClass, ISOLATIONS, type Ask, type Candidate } from './ask.ts';
import { chance, type Chance } from './chance.ts';
import { CONSTRAINTS, obstacle } from './constraints.ts';
import { Lineup } from './lineup.ts';
import { LoadedModels } from './loaded-models.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { scanCost } from './placement-index/scan.ts';
import { ENGINES_STAND } from './placer.ts';

const FLEETS = 60;
const ASKS = 25;

function randomNode(rng: Chance, id: number): Candidate {
  const model = (): Candidate['models'][number] => ({
    ...{ name: rng.pick(['m', 'm', 'other']), digest: 'd', engineClass: 'c', loaded: rng.pick([true, false]) },
    rates: rng.pick([{ inputToken: 0n }, { inputToken: 40n }, { inputToken: 60n, outputToken: 9n }]),
    rowsPerSecond: rng.pick([0, 0.1, 10]),
    isClaimed: rng.pick([true, false]),
    ...rng.pick([{}, { kind: 'embedding' as const }]),
    ...rng.pick([{}, { memoryMib: 30_000 }]),
    ...rng.pick([{}, { loadS: 2 }, { loadS: 500 }]),
    ...rng.pick([{}, { evictS: 30 }, { evictS: Number.POSITIVE_INFINITY }]),
    capabilities: rng.pick([[], ['lora' as const]]),
  });
  const milli = rng.pick([500, 1_000]);
  return candidate(`n${id}`, {
    region: rng.pick(['eu', 'us']),
    pools: rng.pick([[], [], ['lab']]),
    isolation: rng.pick(ISOLATIONS),
    reputation: rng.pick([0.5, 0.9, 1]),
    modelRoomMib: rng.pick([20_000, 40_000]),
    models: Array.from({ length: rng.below(4) }, model),
    gpus: Array.from({ length: rng.below(3) }, () => ({
      model: 'T4',
      vramMib: 16_384,
      milli,
      freeMilli: rng.pick([0, milli]),
    })),
    draining: rng.below(8) === 0,
    rest: rng.below(8) === 0 ? { why: 'refused', forMs: 1_000 } : null,
    reserved: rng.below(6) === 0 ? { jobId: rng.pick(['job', 'other']), forMs: 9_000 } : null,
    isElsewhere: rng.below(6) === 0,
    isSchedulerFull: rng.below(8) === 0,
    benchedForMs: rng.pick([0, 0, 0, 5]),
    leasesActive: rng.pick([0, 0, 0, 1, 2]),
  });
}

/** Of many wishes a few: who wants everything gets nothing. */
function randomAsk(rng: Chance): Ask {
  const wishes: Partial<Ask>[] = [
    { modelKind: 'embedding' },
    { modelKind: 'chat' },
    { rateCaps: { inputToken: 50n } },
    { rateCaps: { inputToken: 99n, outputToken: 5n } },
    { rateCaps: {} },
    { deadlineInMs: 5_000 },
    { deadlineInMs: 60_000 },
    { regions: ['eu'] },
    { regions: ['us', 'eu'] },
    { pools: ['lab'] },
    { isolation: 'gvisor' },
    { reputationFloor: 0.9 },
    { capabilities: ['lora'] },
    { gpus: 1 },
    { gpus: 2 },
    { gpuMilli: 500 },
    { gpuMilli: 1_000 },
    { vramMib: 20_000 },
    { gpuModels: ['T4'] },
    { alone: true },
    { avoidNode: 'n0' },
    { loadGainS: 0 },
    { loadGainS: 40 },
    { cachedOn: new Map([['n1', 50]]) },
  ];
  const asked = askFor({
    jobId: rng.pick(['job', 'other', 'third']),
    model: rng.pick(['m', 'm', 'm', 'm', 'other', null]),
    rateCaps: { inputToken: 99n, outputToken: 50n, gpuMillisecond: 90n },
  });
  const some = Array.from({ length: rng.below(4) }, () => rng.pick(wishes));
  return inClass(some.reduce<Ask>((all, wish) => ({ ...all, ...wish }), asked));
}

describe('Lineup', () => {
  it(`answers as each node does that is asked alone, for ${ASKS} asks one after the other of each of ${FLEETS} fleets`, () => {
    const rng = chance(7);
    let fitting = 0;
    let loaded = 0;
    for (let fleet = 0; fleet < FLEETS; fleet += 1) {
      const nodes = Array.from({ length: 1 + rng.below(40) }, (_, id) => randomNode(rng, id));
      const lineup = new Lineup(nodes);
      const models = new LoadedModels();
      for (const node of nodes) models.put(node);
      for (let i = 0; i < ASKS; i += 1) {
        const ask = randomAsk(rng);
        const places = nodes
          .filter((node) => obstacle(ask, node) === null)
          .map((node) => ({ id: node.nodeId, cost: scanCost(ENGINES_STAND, ask, node) ?? Number.NaN }))
          .sort((a, b) => a.cost - b.cost || (a.id < b.id ? -1 : 1));
        const most = 1 + rng.below(5);
        const best = lineup.best(ask, most, () => true);
        expect(best.map(({ node, cost }) => ({ id: node.nodeId, cost }))).toEqual(places.slice(0, most));
        fitting += places.length;
        if (ask.model === null) continue;
        const slots = lineup.loadedSlots(ask);
        expect(slots).toEqual({ slots: models.slotsFor(ask), isServed: models.isServed(ask) });
        loaded += slots.slots;
      }
    }
    expect(Math.min(fitting, loaded)).toBeGreaterThan(FLEETS * ASKS);
  });

  it('asks a constraint of a node once for all asks that it cannot tell apart', () => {
    const rng = chance(11);
    const NODES = 500;
    const nodes = Array.from({ length: NODES }, (_, id) =>
      candidate(`n${id}`, {
        models: randomNode(rng, id)
          .models.map((model) => ({ ...model, name: 'm' }))
          .slice(0, 1),
      }),
    );
    const alike = new Lineup(nodes);
    const capped = new Lineup(nodes);
    for (let job = 0; job < 256; job += 1) {
      const ask = askFor({ jobId: `job-${job}`, model: 'm', rateCaps: { inputToken: 100n } });
      alike.best(ask, 1, () => true);
      capped.best({ ...ask, rateCaps: { inputToken: BigInt(100 + job) } }, 1, () => true);
    }
    expect(alike.asked).toBeLessThanOrEqual(NODES * CONSTRAINTS.length);
    // One more for each: whether its cap is high enough.
    expect(capped.asked).toBeLessThanOrEqual(NODES * (CONSTRAINTS.length + 256));
  });

  it('learns of a kind of asks in steps that each look at all nodes once at most, and answers then without a look at them', () => {
    const rng = chance(9);
    const NODES = 600;
    const nodes = Array.from({ length: NODES }, (_, id) => randomNode(rng, id));
    const ask = askFor({ jobId: 'job', model: 'm', rateCaps: { inputToken: 100n }, regions: ['eu'] });
    const [lineup, at] = [new Lineup(nodes), new Lineup(nodes)];
    let steps = 0;
    let asked = 0;
    for (const _ of lineup.learning(ask)) {
      const ways = lineup.asked - asked;
      expect(ways).toBeLessThanOrEqual(2 * NODES);
      [steps, asked] = [steps + 1, lineup.asked];
    }
    expect(steps).toBeGreaterThan(CONSTRAINTS.filter(({ reads }) => reads !== 'pair').length);
    expect(lineup.best(ask, 3, () => true)).toEqual(at.best(ask, 3, () => true));
    expect(lineup.asked).toBe(asked);
    for (const _ of lineup.learning(ask, 'slots'));
    const all = lineup.asked;
    expect(lineup.loadedSlots(ask)).toEqual(at.loadedSlots(ask));
    expect(lineup.asked).toBe(all);
  });
});
