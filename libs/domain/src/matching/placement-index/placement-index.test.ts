import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from '@jest/globals';
import { ISOLATIONS, type Ask, type Candidate } from '../ask.ts';
import { CONSTRAINTS, obstacle, ROWS_UNACCEPTED_MAX, takesWork } from '../constraints.ts';
import { chance, type Chance } from '../chance.ts';
import { askFor, candidate, economyOf } from '../matching.fixture.ts';
import { tieKeyOf } from '../placer.ts';
import { PlacementIndex } from './placement-index.ts';
import { bestByScan } from './scan.ts';

const SNAPSHOTS = 10_000;
/** Of fleets of 50 to 200 nodes. */
const LARGE = 200;
const STEPS = 800;
const OF_OFFER = CONSTRAINTS.filter(({ reads }) => reads === 'offer');
const REGIONS = ['eu', 'us', 'ap'];
const MODELS = ['T4', 'A10', 'G2'];
const POOLS = ['lab', 'chair'];
const LOADS_S = [0.2, 5, 90];

/** A node that is like no other, as its record is its own. */
function serving(id: number, name: string): Candidate {
  const rates = { embeddingToken: 10n, inputToken: 10n };
  const model = { name, digest: 'sha256:x', engineClass: 'c', loaded: true, rowsPerSecond: 40, rates };
  return candidate(`n${id}`, { models: [model], reputation: 0.9 + id / 10_000 });
}

/** A fleet with few kinds of machines, so that states are shared, and everything else by chance. */
function randomNode(rng: Chance, id: number): Candidate {
  const model = rng.pick(MODELS);
  const gpus = rng.pick([0, 1, 2, 4, 8]);
  const milli = rng.pick([1_000, 1_000, 500]);
  return candidate(`n${id}`, {
    region: rng.pick(REGIONS),
    pools: rng.pick([[], ['lab'], POOLS]),
    isolation: rng.pick(ISOLATIONS),
    reputation: rng.pick([0.5, 0.9, 0.99]),
    gpus: Array.from({ length: gpus }, () => ({
      model,
      vramMib: model === 'T4' ? 16_384 : 24_576,
      milli,
      freeMilli: rng.pick([0, 190, 500, milli, milli]),
    })),
    cpuFreeMilli: rng.pick([4_000, 32_000]),
    memoryFreeMib: rng.pick([8_192, 65_536]),
    ...(rng.below(2) === 0 ? { modelRoomMib: rng.pick([16_384, 24_576]) } : {}),
    gpuRates: { gpuMillisecond: BigInt(rng.pick([50, 60, 60, 90])) },
    models: rng.pick([[], [rng.pick([10n, 20n])], [10n, 20n]]).map((rate) => ({
      name: 'm',
      digest: 'sha256:x',
      engineClass: 'c',
      loaded: rng.pick([true, false]),
      isClaimed: rng.pick([true, false]),
      ...(rng.below(3) === 0 ? { memoryMib: 20_000 } : {}),
      ...(rng.below(3) === 0 ? { evictS: rng.pick([1, 60, Number.POSITIVE_INFINITY]) } : {}),
      ...(rng.below(3) === 0 ? { loadS: rng.pick(LOADS_S) } : {}),
      rates: { embeddingToken: rate, inputToken: rate },
      rowsPerSecond: rng.pick([0, 2, 40]),
      capabilities: rng.pick([[], ['logprobs' as const]]),
    })),
    draining: rng.below(12) === 0,
    benchedForMs: rng.below(12) === 0 ? 1_000 : 0,
    ...(rng.below(10) === 0 ? { rest: rng.pick([null, { why: 'it refused', forMs: 1_000 }]) } : {}),
    ...(rng.below(10) === 0 ? { isSchedulerFull: rng.pick([true, false]) } : {}),
    leasesActive: rng.pick([0, 0, 1, 2]),
    rowsUnaccepted: rng.pick([0, 0, 0, ROWS_UNACCEPTED_MAX - 1, ROWS_UNACCEPTED_MAX]),
  });
}

function randomAsk(rng: Chance, nodes: readonly Candidate[]): Ask {
  const asksGpu = rng.below(3) > 0;
  const gpus = asksGpu ? rng.pick([1, 1, 1, 2, 4]) : 0;
  const near = rng.pick(nodes).nodeId;
  return askFor({
    model: asksGpu ? null : 'm',
    gpus,
    gpuMilli: gpus === 0 ? 0 : gpus === 1 ? rng.pick([190, 470, 500, 810, 1_000]) : 1_000,
    gpuModels: rng.pick([[], [], ['T4'], ['T4', 'A10']]),
    vramMib: rng.pick([0, 0, 20_000]),
    cpuMilli: gpus * rng.pick([0, 1_000, 8_000]),
    memoryMib: gpus * rng.pick([0, 4_096]),
    regions: rng.pick([[], [], ['eu'], ['eu', 'us']]),
    pools: rng.pick([[], [], [], ['lab']]),
    isolation: rng.pick(['none', 'none', 'bwrap', 'gvisor']),
    reputationFloor: rng.pick([0, 0, 0.9]),
    capabilities: rng.pick([[], [], ['logprobs']]),
    deadlineInMs: rng.pick([500, 60_000, 3_600_000]),
    rateCaps: asksGpu
      ? { gpuMillisecond: BigInt(rng.pick([55, 100])) }
      : { embeddingToken: BigInt(rng.pick([15, 100])) },
    ...(rng.below(3) === 0 ? { loadGainS: rng.pick([0, 30, Number.POSITIVE_INFINITY]) } : {}),
    ...(rng.below(4) === 0 ? { alone: true } : {}),
    avoidNode: rng.below(4) === 0 ? near : null,
    ...(rng.below(4) === 0 ? { cachedOn: new Map([[near, 512]]) } : {}),
  });
}

const economy = economyOf();

describe('PlacementIndex', () => {
  it(`answers as a scan of all nodes on ${SNAPSHOTS} random snapshots, and never over capacity or outside a constraint`, () => {
    const rng = chance(7);
    let placed = 0;
    for (let round = 0; round < SNAPSHOTS; round += 1) placed += answersAsAScan(rng, 1 + rng.below(8), round);
    expect(placed).toBeGreaterThan(SNAPSHOTS / 4);
  });

  it(`answers as a scan on ${LARGE} more of fleets of 50 to 200 nodes`, () => {
    const rng = chance(29);
    let placed = 0;
    for (let round = 0; round < LARGE; round += 1) placed += answersAsAScan(rng, 50 + rng.below(151), round);
    expect(placed).toBeGreaterThan(LARGE);
  });

  it(`answers as a scan over ${STEPS} changes of a fleet whose nodes are all in states of their own`, () => {
    const rng = chance(13);
    const nodes = Array.from({ length: 150 }, (_, id) => ({ ...randomNode(rng, id), cpuFreeMilli: rng.below(1e6) }));
    const index = new PlacementIndex(nodes.length, economy);
    // A few at first: the table grows with them, and later its places are used again for states that nobody is in any more.
    for (const node of nodes.slice(0, 20)) index.put(node);
    const asks = Array.from({ length: 12 }, () => randomAsk(rng, nodes));
    let placed = 0;
    for (let step = 0; step < STEPS; step += 1) {
      const known = nodes.slice(0, Math.min(nodes.length, 20 + step));
      for (let change = rng.below(12); change >= 0; change -= 1) {
        const id = rng.below(known.length);
        nodes[id] = { ...randomNode(rng, id), cpuFreeMilli: rng.below(1e6) };
        index.put(nodes[id] as Candidate);
        known[id] = nodes[id] as Candidate;
      }
      for (const node of known.slice(19)) if (index.numberOf(node.nodeId) === undefined) index.put(node);
      const ask = rng.pick(asks);
      const choice = index.best(index.classOf(ask), ask.avoidNode ?? null, ask.cachedOn);
      const scanned = bestByScan(economy, ask, known);
      if (choice?.node !== scanned?.node || choice?.cost !== scanned?.cost)
        expect({ step, found: choice }).toEqual({ step, found: scanned });
      const serving = known.filter((node) => takesWork(node) && isServing(ask, node)).length;
      if (index.serving(index.classOf(ask)) !== serving) expect({ step, serving }).toBe('the count of a scan');
      placed += Number(choice !== null);
    }
    expect(placed).toBeGreaterThan(STEPS / 4);
  });

  it.each([0, 3])('answers as a scan, and as an index made anew, whoever came and went before (seed %i)', (seed) => {
    const rng = chance(17 + seed);
    const tieKey = tieKeyOf(seed);
    const standing = new Map<string, Candidate>();
    // Room for two: it grows with the fleet.
    const index = new PlacementIndex(2, economy, { tieKey });
    const asks = Array.from({ length: 30 }, () => randomAsk(rng, [randomNode(rng, rng.below(40))]));
    let placed = 0;
    for (let step = 0; step < STEPS / 2; step += 1) {
      for (let change = rng.below(6); change >= 0; change -= 1) {
        const id = rng.below(40);
        // Few kinds: those that come and go are often alike in all but their names.
        const node = { ...randomNode(chance(rng.below(12)), id), nodeId: `n${id}` };
        if (rng.below(3) === 0) {
          standing.delete(node.nodeId);
          index.drop(node.nodeId);
        } else {
          standing.set(node.nodeId, node);
          index.put(node);
        }
      }
      const inOrder = [...standing.values()].sort(
        (a, b) => tieKey(a.nodeId) - tieKey(b.nodeId) || (a.nodeId < b.nodeId ? -1 : 1),
      );
      const anew = new PlacementIndex(standing.size, economy, { tieKey });
      for (const node of standing.values()) anew.put(node);
      const ask = rng.pick(asks);
      const scanned = bestByScan(economy, ask, inOrder);
      const expected = scanned === null ? null : { id: inOrder[scanned.node]?.nodeId, cost: scanned.cost };
      for (const one of [index, anew]) {
        const choice = one.best(one.classOf(ask), ask.avoidNode ?? null, ask.cachedOn);
        const found = choice === null ? null : { id: one.idOf(choice.node), cost: choice.cost };
        if (found?.id !== expected?.id || found?.cost !== expected?.cost)
          expect({ step, of: one === index ? 'kept' : 'anew', found }).toEqual({ step, found: expected });
      }
      expect(index.nodes).toBe(standing.size);
      expect(index.serving(index.classOf(ask))).toBe(anew.serving(anew.classOf(ask)));
      placed += Number(expected !== null);
    }
    expect(placed).toBeGreaterThan(STEPS / 16);
  });

  it('scores nothing again when nodes come and go that are like others', () => {
    const index = new PlacementIndex(1, economy, { tieKey: tieKeyOf(0) });
    const like = (id: number): Candidate => candidate(`n${id}`, { gpus: [gpu()], reputation: id % 5 });
    for (let id = 0; id < 500; id += 1) index.put(like(id));
    const task = index.classOf(askFor({ gpus: 1, gpuMilli: 470 }));
    index.best(task);
    const before = index.examined;
    for (let id = 0; id < 500; id += 1) {
      index.drop(`n${id}`);
      index.put(like(id + 500));
      index.best(task);
    }
    expect(index.examined).toBe(before);
  });

  it('asks an offer once for all wishes that differ in their time left alone, and answers as a scan for each', () => {
    const rng = chance(31);
    let [placed, asks] = [0, 0];
    for (let round = 0; round < 60; round += 1) {
      const nodes = Array.from({ length: 40 }, (_, id) => ({ ...randomNode(rng, id), reputation: 0.9 + id / 1_000 }));
      const index = new PlacementIndex(nodes.length, economy);
      for (const node of nodes) index.put(node);
      const { avoidNode: _, cachedOn: __, ...kind } = randomAsk(rng, nodes);
      for (let left = 3_600_000; left > 300; left *= 0.7) {
        const ask = { ...kind, deadlineInMs: left, ...rng.pick([{}, { loadGainS: rng.below(90) }]) };
        const [choice, scanned] = [index.best(index.classOf(ask)), bestByScan(economy, ask, nodes)];
        if (choice?.node !== scanned?.node || choice?.cost !== scanned?.cost)
          expect({ round, left, found: choice }).toEqual({ round, left, found: scanned });
        [placed, asks] = [placed + Number(choice !== null), asks + 1];
      }
      expect(index.judged).toBeLessThanOrEqual(nodes.length);
    }
    expect(placed).toBeGreaterThan(asks / 4);
  });

  it('takes the memory that it says, however many models its nodes name', async () => {
    const nodes = Array.from({ length: 600 }, (_, id) => serving(id, `m${id % 300}`));
    const before = await bytesOfArrays();
    const index = new PlacementIndex(nodes.length, economy);
    for (const node of nodes) index.put(node);
    for (let left = 3_600_000; left > 900_000; left /= 2)
      for (let model = 0; model < 300; model += 1) {
        const ask = askFor({ model: `m${model}`, deadlineInMs: left });
        expect(index.best(index.classOf(ask))?.cost).toBe(bestByScan(economy, ask, nodes)?.cost);
      }
    expect((await bytesOfArrays()) - before).toBeLessThan(1.1 * index.bytes);
    expect(index.classes).toBeGreaterThan(300);
  });

  it('looks at no more states for a fleet a hundred times as large', () => {
    const examined = [1_000, 100_000].map((count) => {
      const index = new PlacementIndex(count, economy);
      for (let id = 0; id < count; id += 1)
        index.put(candidate(`n${id}`, { gpus: Array.from({ length: 8 }, () => gpu()), cpuFreeMilli: 64_000 }));
      const task = index.classOf(askFor({ gpus: 1, gpuMilli: 470 }));
      index.best(task);
      const before = index.examined;
      for (let i = 0; i < 500; i += 1) {
        const choice = index.best(task);
        if (choice !== null) index.take(task, choice);
      }
      return (index.examined - before) / 500;
    });
    expect(examined[1]).toBeLessThanOrEqual(Math.max(2, 1.5 * (examined[0] ?? 0)));
  });

  it('finds again what was given back, and forgets a node that left', () => {
    const index = new PlacementIndex(2, economy);
    index.put(candidate('a', { gpus: [gpu()] }));
    const task = index.classOf(askFor({ gpus: 1, gpuMilli: 1_000 }));
    const first = index.best(task);
    if (first === null) throw new Error('expected a place');
    index.take(task, first);
    expect(index.best(task)).toBeNull();
    index.give(task, first);
    expect(index.best(task)).toEqual(first);
    index.drop('a');
    expect(index.best(task)).toBeNull();
  });

  it('refuses to take what is not there', () => {
    const index = new PlacementIndex(1, economy);
    index.put(candidate('a', { gpus: [gpu()] }));
    const task = index.classOf(askFor({ gpus: 1, gpuMilli: 600 }));
    const choice = index.best(task);
    if (choice === null) throw new Error('expected a place');
    index.take(task, choice);
    expect(() => index.take(task, choice)).toThrow(/INDEX_OVERDRAWN/);
  });
});

/**
 * Asks a fleet three times and changes it in between, nodes that are kept for others among it. What only those who explain know of
 * (`isElsewhere`) is not the index's to answer.
 *
 * @returns how many of the asks found a place.
 */
function answersAsAScan(rng: Chance, count: number, round: number): number {
  const index = new PlacementIndex(count, economy);
  const nodes = Array.from({ length: count }, (_, id) => randomNode(rng, id));
  const put = (node: Candidate, at: number): void => {
    nodes[at] = node;
    index.put(node);
  };
  for (const [at, node] of nodes.entries()) put(node, at);
  let placed = 0;
  for (let turn = 0; turn < 3; turn += 1) {
    for (let changes = rng.below(2 + (count >> 4)); changes > 0; changes -= 1)
      keepOrRelease(index, nodes, rng.below(count));
    const ask = randomAsk(rng, nodes);
    const task = index.classOf(ask);
    const choice = index.best(task, ask.avoidNode ?? null, ask.cachedOn);
    const scanned = bestByScan(economy, ask, nodes);
    // Plain comparisons: the assertion library costs more than the placement.
    if (choice?.node !== scanned?.node || choice?.cost !== scanned?.cost)
      expect({ round, turn, found: choice }).toEqual({ round, turn, found: scanned });
    if (choice !== null) {
      placed += 1;
      const node = nodes[choice.node];
      if (node === undefined || obstacle(ask, node) !== null)
        throw new Error(`snapshot ${round}: ${ask.jobId} does not fit`);
      index.take(task, choice);
      nodes[choice.node] = taken(node, ask, choice.gpus);
    }
    const gone = rng.below(count);
    // Half of the time a twin of another node: ties between states are where an index goes wrong.
    const like = rng.below(2) === 0 ? randomNode(rng, gone) : twinOf(rng, rng.pick(nodes));
    put({ ...like, nodeId: `n${gone}`, reserved: nodes[gone]?.reserved ?? null }, gone);
  }
  return placed;
}

/** A node that differs in one thing that an offer says: where it stands, or how long it loads. */
function twinOf(rng: Chance, node: Candidate): Candidate {
  if (rng.below(2) === 0) return { ...node, region: rng.pick(REGIONS) };
  return { ...node, models: node.models.map((model) => ({ ...model, loadS: rng.pick(LOADS_S) })) };
}

/** A node is kept for another job, or not any more: who decides says so to the index, and those who explain read it of the node. */
function keepOrRelease(index: PlacementIndex, nodes: Candidate[], at: number): void {
  const node = nodes[at];
  if (node === undefined) return;
  const isKept = (node.reserved ?? null) !== null;
  if (isKept) index.release(at);
  else index.hold(at);
  nodes[at] = { ...node, reserved: isKept ? null : { jobId: 'another', forMs: 9_000 } };
}

function gpu(freeMilli = 1_000): Candidate['gpus'][number] {
  return { model: 'T4', vramMib: 16_384, milli: 1_000, freeMilli };
}

function isServing(ask: Ask, node: Candidate): boolean {
  return OF_OFFER.every(({ holds }) => holds(ask, node));
}

function taken(node: Candidate, ask: Ask, gpus: readonly number[]): Candidate {
  return {
    ...node,
    gpus: node.gpus.map((one, i) => (gpus.includes(i) ? { ...one, freeMilli: one.freeMilli - ask.gpuMilli } : one)),
    cpuFreeMilli: node.cpuFreeMilli - ask.cpuMilli,
    memoryFreeMib: node.memoryFreeMib - ask.memoryMib,
  };
}

/** What arrays hold once nothing more goes: a collection is done with them some time after it was asked for. */
async function bytesOfArrays(): Promise<number> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 10; round += 1) {
    await setImmediate();
    collect();
    least = Math.min(least, process.memoryUsage().arrayBuffers);
  }
  return least;
}
