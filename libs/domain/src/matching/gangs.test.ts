import { describe, expect, it } from '@jest/globals';
import type { Candidate } from './ask.ts';
import { chance, type Chance } from './chance.ts';
import { LEASES_AHEAD, obstacle } from './constraints.ts';
import type { Demand, Placement } from './demand.ts';
import { gangPlaces, memberAsk } from './gangs.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { placeTasks } from './place.ts';
import { ENGINES_STAND, Placer } from './placer.ts';
import { PlacementIndex } from './placement-index/placement-index.ts';

const FLEETS = 300;
const GPU = { model: 'T4', vramMib: 16_384, milli: 1_000, freeMilli: 1_000 };
const MODEL = {
  ...{ name: 'm', digest: 'd', engineClass: 'c', loaded: true },
  ...{ rates: { embeddingToken: 1n }, rowsPerSecond: 1 },
};

const node = (id: string, over: Partial<Candidate> = {}): Candidate => candidate(id, { models: [MODEL], ...over });

function job(jobId: string, rows: number, over: Partial<Demand> = {}): Demand {
  const ask = askFor({ jobId, model: 'm', rateCaps: { embeddingToken: 100n } });
  return { ask, ageMs: 0, nextRow: 0, rowCount: rows, queued: [], ...over };
}

const of = (jobId: string, placed: readonly Placement[]): readonly Placement[] =>
  placed.filter((one) => one.jobId === jobId);

function randomNode(rng: Chance, id: number): Candidate {
  return node(`n${id}`, {
    region: rng.pick(['eu', 'us']),
    rowsAccepted: rng.pick([0, 100]),
    models: [{ ...MODEL, rowsPerSecond: rng.pick([1, 50]), loaded: rng.below(3) > 0 }],
    leasesActive: rng.below(LEASES_AHEAD + 1),
    rowsUnaccepted: rng.pick([0, 0, 2_040]),
    draining: rng.below(8) === 0,
    gpus: Array.from({ length: rng.below(3) }, () => GPU),
  });
}

describe('a gang', () => {
  it(`begins on as many idle nodes as it names, each with rows of its own, or on none, over ${FLEETS} random fleets`, () => {
    const rng = chance(5);
    let begun = 0;
    let waited = 0;
    for (let fleet = 0; fleet < FLEETS; fleet += 1) {
      const nodes = Array.from({ length: 1 + rng.below(12) }, (_, id) => randomNode(rng, id));
      const gang = 2 + rng.below(4);
      const rows = gang + rng.pick([0, 1, 30, 700]);
      const demands = [job('gang', rows, { gang, ageMs: rng.below(2) * 1_000 })];
      for (let i = rng.below(3); i > 0; i -= 1) demands.push(job(`j${i}`, 1 + rng.below(40), { ageMs: 500 }));
      const asked = { ...demands[0]?.ask, regions: rng.pick([[], ['eu']]), gpus: rng.pick([0, 0, 1]), loadGainS: 0 };
      demands[0] = { ...(demands[0] as Demand), ask: { ...askFor(), ...asked } };
      const seed = rng.below(3);
      const placed = placeTasks(demands, nodes, seed);
      expect(placeTasks(demands, nodes, seed)).toEqual(placed);
      const own = of('gang', placed);
      const firsts = own.slice(0, gang);
      const before = placed.slice(0, placed.indexOf(own[0] as Placement));
      const idle = nodes.filter(
        (one) =>
          obstacle(memberAsk({ ...askFor(), ...asked }), one) === null &&
          (own.length === 0 || !before.some(({ nodeId }) => nodeId === one.nodeId)),
      );
      if (own.length === 0) {
        waited += 1;
        const others = new Set(placed.map(({ nodeId }) => nodeId));
        const left = idle.filter(({ nodeId }) => !others.has(nodeId));
        if (left.length >= gang) expect({ fleet, gang, left }).toBeUndefined();
        continue;
      }
      begun += 1;
      expect(new Set(firsts.map(({ nodeId }) => nodeId)).size).toBe(gang);
      for (const { nodeId } of firsts) expect(idle.map((one) => one.nodeId)).toContain(nodeId);
      let next = 0;
      for (const { rowFrom, rowTo } of own) {
        expect(rowFrom).toBe(next);
        expect(rowTo).toBeGreaterThan(rowFrom);
        next = rowTo;
      }
      expect(next).toBeLessThanOrEqual(rows);
    }
    expect(begun).toBeGreaterThan(FLEETS / 12);
    expect(waited).toBeGreaterThan(FLEETS / 5);
  });

  it('takes whole GPUs as it takes slots, and leaves the index as it was when it finds no place', () => {
    const index = new PlacementIndex(3, ENGINES_STAND);
    for (const id of ['a', 'b', 'c']) index.put(node(id, { gpus: id === 'c' ? [GPU] : [GPU, GPU] }));
    const task = index.classOf(
      memberAsk(askFor({ model: 'm', rateCaps: { embeddingToken: 1n }, gpus: 2, gpuMilli: 1_000 })),
    );
    expect(gangPlaces(index, task, 3)).toBeNull();
    expect(gangPlaces(index, task, 2)?.map(({ node: number }) => index.idOf(number))).toEqual(['a', 'b']);
    expect(index.states).toBe(2);
  });

  it('begins with its members alone where one batch of decisions has no room for all of them', () => {
    const placer = new Placer();
    for (const id of ['a', 'b', 'c']) placer.put(node(id));
    expect(placer.place([job('gang', 90, { gang: 3 })], 2)).toEqual([]);
    expect(placer.place([job('gang', 90, { gang: 3 })], 3).map(({ nodeId }) => nodeId)).toEqual(['a', 'b', 'c']);
  });

  it('gives every member a row, and what is left after its beginning to any node with room', () => {
    const nodes = ['0', 'a', 'b', 'c'].map((id) => node(id, { leasesActive: id === '0' ? 1 : 0 }));
    expect(placeTasks([job('g', 3, { gang: 3 })], nodes).map(({ rowFrom, rowTo }) => rowTo - rowFrom)).toEqual([
      1, 1, 1,
    ]);
    expect(placeTasks([job('g', 7, { gang: 3 })], nodes).map(({ rowFrom, rowTo }) => rowTo - rowFrom)).toEqual([
      3, 2, 2,
    ]);
    const placed = placeTasks([job('g', 60, { gang: 3 })], nodes);
    expect(placed.slice(0, 3).map(({ nodeId }) => nodeId)).toEqual(['a', 'b', 'c']);
    expect(placed.slice(3).map(({ nodeId }) => nodeId)).toEqual(['0', 'a']);
    expect(placed.at(-1)?.rowTo).toBe(60);
  });
});
