import { describe, expect, it } from '@jest/globals';
import { inClass, ISOLATIONS, type Ask, type Candidate, type Rest } from './ask.ts';
import { chance, type Chance } from './chance.ts';
import { CONSTRAINTS, obstacle, ROWS_UNACCEPTED_MAX, type Constraint } from './constraints.ts';
import { explainNever, explainPlacement } from './explain.ts';
import { explainNode, NodeTurns, type NodeExplanation } from './explain-node.ts';
import { explainPast, type PastExplanation, type PastWork } from './explain-past.ts';
import { memberAsk } from './gangs.ts';
import { Lineup } from './lineup.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { placeTasks } from './place.ts';
import { askingLess, minimalRelaxations, RELAXATIONS_MAX } from './relax.ts';
import { alternatives } from './served-model.ts';

const SNAPSHOTS = 500;

function served(rate: bigint, over: Partial<Candidate['models'][number]> = {}): Candidate['models'] {
  const rates = { embeddingToken: rate };
  return [{ name: 'm', digest: 'sha256:x', engineClass: 'c', loaded: true, rates, rowsPerSecond: 10, ...over }];
}
const ask = (over: Partial<Ask> = {}): Ask => askFor({ model: 'm', rateCaps: { embeddingToken: 100n }, ...over });
const node = (id: string, over: Partial<Candidate> = {}, rate = 50n): Candidate =>
  candidate(id, { models: served(rate), ...over });

function randomNode(rng: Chance, id: number): Candidate {
  const gpu = { model: rng.pick(['T4', 'A10']), vramMib: rng.pick([16_384, 24_576]), milli: rng.pick([500, 1_000]) };
  return node(`n${id}`, {
    region: rng.pick(['eu', 'us']),
    pools: rng.pick([[], ['lab']]),
    isolation: rng.pick(ISOLATIONS),
    reputation: rng.pick([0.5, 0.9]),
    gpus: Array.from({ length: rng.below(3) }, () => ({ ...gpu, freeMilli: rng.pick([0, 250, gpu.milli]) })),
    models: [randomModel(rng), randomModel(rng)].slice(rng.below(2)).flat(),
    draining: rng.below(6) === 0,
    rest: rng.below(6) === 0 ? { why: 'refused', forMs: 1_000 * (1 + rng.below(9)) } : null,
    isSchedulerFull: rng.below(9) === 0,
    isElsewhere: rng.below(9) === 0,
    benchedForMs: rng.pick([0, 0, 0, 0, 60_000]),
    rowsUnaccepted: rng.pick([0, 0, 0, 0, 0, ROWS_UNACCEPTED_MAX]),
    reserved: rng.below(8) === 0 ? { jobId: rng.pick(['job', 'other']), forMs: 9_000 } : null,
    ...rng.pick([{}, { modelRoomMib: 20_000 }]),
    leasesActive: rng.below(3),
  });
}

function randomModel(rng: Chance): Candidate['models'] {
  return served(BigInt(rng.pick([0, 50, 50, 150, 150])), {
    name: rng.pick(['m', 'm', 'm', 'other']),
    loaded: rng.pick([true, false]),
    evictS: rng.pick([0, 5, 50, Number.POSITIVE_INFINITY]),
    isClaimed: rng.pick([true, false]),
    rowsPerSecond: rng.pick([0, 0.05, 10, 10]),
    ...rng.pick([{}, { loadS: 2 }, { loadS: 4_000 }]),
    ...rng.pick([{}, { memoryMib: 10_000 }, { memoryMib: 30_000 }]),
    ...rng.pick([{}, { kind: 'embedding' as const }]),
    capabilities: rng.pick([[], ['logprobs' as const]]),
  });
}

/** As the placement takes it: what is left of the time is rounded there. */
function randomAsk(rng: Chance): Ask {
  const gpus = rng.below(3);
  return inClass(
    ask({
      ...rng.pick([{}, { modelKind: 'embedding' as const }]),
      regions: rng.pick([[], ['eu']]),
      pools: rng.pick([[], [], ['lab']]),
      isolation: rng.pick(['none', 'gvisor']),
      reputationFloor: rng.pick([0, 0.9]),
      capabilities: rng.pick([[], ['logprobs' as const]]),
      gpus,
      // A share is asked of nodes' GPUs, however many it is to be.
      gpuMilli: rng.pick([0, 500, 1_000]),
      gpuModels: rng.pick([[], ['A10']]),
      vramMib: rng.pick([0, 20_000]),
      deadlineInMs: rng.pick([1_000, 10_000, 3_600_000]),
      avoidNode: rng.pick([null, null, 'n0']),
      avoidForMs: 2_500,
      ...rng.pick([{}, { loadGainS: 0 }, { loadGainS: 20 }, { loadGainS: Number.POSITIVE_INFINITY }]),
    }),
  );
}

/** What is left of an ask when a wish is dropped as far as a node needs it; what no requester can drop is not here. */
const DROPPED: Readonly<Record<string, (asked: Ask, one: Candidate) => Partial<Ask>>> = {
  capability: () => ({ capabilities: [] }),
  'gpu-model': () => ({ gpuModels: [] }),
  'gpu-count': (asked, { gpus }) => ({ gpus: Math.min(asked.gpus, gpus.length) }),
  'gpu-share': (asked, { gpus }) => ({
    gpuMilli: Math.min(asked.gpuMilli, ...gpus.map(({ milli }) => milli), gpus.length * 1_000),
  }),
  vram: () => ({ vramMib: 0 }),
  region: () => ({ regions: [] }),
  isolation: () => ({ isolation: 'none' }),
  reputation: () => ({ reputationFloor: 0 }),
  price: () => ({ rateCaps: { embeddingToken: 10n ** 12n } }),
  deadline: () => ({ deadlineInMs: Number.POSITIVE_INFINITY }),
};

/** The smallest sets of liftable constraints without which a node fits as it stands: the wishes are dropped and all is asked again. */
function letIn(asked: Ask, one: Candidate, liftable: readonly Constraint[]): readonly number[] {
  const failing = CONSTRAINTS.filter((constraint) => !constraint.holds(asked, one));
  const bits = failing.map((constraint) => liftable.indexOf(constraint));
  if (bits.includes(-1)) return [];
  const sets = Array.from({ length: 1 << failing.length }, (_, set) =>
    failing.filter((_constraint, bit) => (set & (1 << bit)) !== 0),
  );
  const opening = sets.filter((lifted) => {
    const less = lifted.reduce((left, { name }) => ({ ...left, ...DROPPED[name]?.(left, one) }), asked);
    const waits = lifted.filter((constraint) => constraint.lifted === 'by-waiting');
    return CONSTRAINTS.every((constraint) => waits.includes(constraint) || constraint.holds(less, one));
  });
  const masks = opening.map((lifted) =>
    lifted.reduce((set, constraint) => set | (1 << liftable.indexOf(constraint)), 0),
  );
  return masks.filter((mask) => !masks.some((part) => part !== mask && (part & ~mask) === 0));
}

/** Every set of constraints that, lifted, lets a node in, or so many, and of which no part does. With `+nodes`: on fewer at once. */
function bruteForce(asked: Ask, fleet: readonly Candidate[], members = 1): string[] {
  const nodes = fleet.flatMap((one) => alternatives(asked, one));
  const liftable = CONSTRAINTS.filter(
    (one) => one.lifted !== null && nodes.some((candidateNode) => !one.holds(asked, candidateNode)),
  );
  // Asked once: there are tens of thousands of sets.
  const kept = fleet.map((one) => alternatives(asked, one).flatMap((way) => letIn(asked, way, liftable)));
  // One bit more: on fewer nodes at once.
  const fewer = 1 << liftable.length;
  const lifts = [...liftable.map((_, bit) => 1 << bit), ...(members > 1 ? [fewer] : [])];
  const opens = (set: number): boolean =>
    kept.filter((ways) => ways.some((needed) => (needed & ~set) === 0)).length >= ((set & fewer) === 0 ? members : 1);
  const sets = Array.from({ length: members > 1 ? 2 * fewer : fewer }, (_, set) => set).filter(opens);
  return sets
    .filter((set) => !lifts.some((bit) => (set & bit) !== 0 && opens(set & ~bit)))
    .filter((set) => set !== 0)
    .map((set) => [
      ...liftable.filter((_, bit) => (set & (1 << bit)) !== 0).map(({ name }) => name),
      ...((set & fewer) === 0 ? [] : ['nodes']),
    ])
    .map((names) => names.join('+'));
}

/** Of those that could be leased, most of the time. */
function freeNode(rng: Chance, id: number): Candidate {
  const rate = BigInt(10 + rng.below(90));
  return node(`n${id}`, {
    region: rng.pick(['eu', 'us']),
    reputation: rng.pick([0.9, 0.99]),
    gpus: Array.from({ length: rng.below(2) }, () => ({ model: 'T4', vramMib: 1, milli: 1_000, freeMilli: 1_000 })),
    models: served(rate, { loaded: rng.below(4) > 0, rowsPerSecond: rng.pick([0.1, 10]), loadS: rng.pick([2, 15]) }),
    reserved: rng.below(5) === 0 ? { jobId: rng.pick(['job', 'other']), forMs: 9_000 } : null,
    leasesActive: rng.pick([0, 0, 0, 1]),
    draining: rng.below(8) === 0,
  });
}

/** What the explanation says of counts and prices, from the meaning of each: constraint by constraint, node by node. */
function counted(asked: Ask, nodes: readonly Candidate[]): object {
  const rateOf = (one: Candidate): bigint =>
    one.models.find(({ name }) => name === asked.model)?.rates.embeddingToken ?? 0n;
  const each = (some: readonly Candidate[]): Candidate[] => some.flatMap((one) => alternatives(asked, one));
  const least = (some: readonly Candidate[]): { embeddingToken: string } | null => {
    const [lowest] = some.map(rateOf).sort((a, b) => (a < b ? -1 : 1));
    return lowest === undefined ? null : { embeddingToken: String(lowest) };
  };
  const failing = (one: Candidate): string[] =>
    CONSTRAINTS.filter((constraint) => !constraint.holds(asked, one)).map(({ name }) => name);
  const byWaiting = new Set(CONSTRAINTS.filter(({ lifted }) => lifted === 'by-waiting').map(({ name }) => name));
  const eliminated: Record<string, number> = {};
  let left = [...nodes];
  for (const { name, holds } of CONSTRAINTS) {
    const before = left.length;
    left = left.filter((one) => holds(asked, one));
    if (left.length < before) eliminated[name] = before - left.length;
  }
  const cheapest = least(
    each(nodes).filter((one) => failing(one).every((name) => name === 'price' || byWaiting.has(name))),
  );
  return {
    fitting: left.length,
    eliminated,
    cheapest: cheapest?.embeddingToken ?? null,
    withinCap: cheapest === null ? null : BigInt(cheapest.embeddingToken) <= 100n,
    priceThatWouldDo: least(
      each(nodes.filter((one) => failing(one).length > 0)).filter((one) => failing(one).join() === 'price'),
    ),
  };
}

describe('minimalRelaxations', () => {
  it(`finds what a brute force over all sets of constraints finds, on ${SNAPSHOTS} random snapshots`, () => {
    const rng = chance(3);
    let found = 0;
    const seen = new Set<string>();
    for (let round = 0; round < SNAPSHOTS; round += 1) {
      const nodes = Array.from({ length: 1 + rng.below(4) }, (_, id) => randomNode(rng, id));
      const asked = randomAsk(rng);
      const relaxations = minimalRelaxations(asked, nodes);
      const names = relaxations.map(({ constraints }) => constraints.map(({ name }) => name).join('+'));
      expect([...names].sort()).toEqual(bruteForce(asked, nodes).sort());
      const { fitting, eliminated, cheapestOffer, priceThatWouldDo } = explainPlacement(asked, nodes);
      expect({
        fitting,
        eliminated: Object.fromEntries(eliminated.map((one) => [one.constraint, one.nodes])),
        cheapest: cheapestOffer?.rates['embeddingToken'] ?? null,
        withinCap: cheapestOffer?.withinCap ?? null,
        priceThatWouldDo,
      }).toEqual(counted(asked, nodes));
      for (const { constraints, waysIn } of relaxations) {
        const ways = waysIn();
        found += 1;
        for (const { node: one } of ways) {
          const left = obstacle(askingLess(asked, one), one);
          expect(left === null || left.lifted === 'by-waiting').toBe(true);
          expect(constraints.length).toBeGreaterThan(0);
          for (const { name } of constraints) seen.add(name);
        }
      }
    }
    expect(found).toBeGreaterThan(SNAPSHOTS);
    const named = ['gpu-model', 'vram', 'price', 'warm-wait', 'resting', 'scheduler-full', 'reserved', 'avoided'];
    named.push('capability', 'gpu-count', 'gpu-share', 'region', 'isolation', 'reputation', 'deadline');
    named.push('room', 'benched', 'draining', 'busy', 'unaccepted');
    expect([...seen]).toEqual(expect.arrayContaining(named));
  });
});

describe('minimalRelaxations of a gang', () => {
  it(`finds what a brute force finds for several nodes at once, to begin on fewer among it, on ${SNAPSHOTS / 2} random snapshots`, () => {
    const rng = chance(17);
    let found = 0;
    let cut = 0;
    for (let round = 0; round < SNAPSHOTS / 2; round += 1) {
      const nodes = Array.from({ length: 1 + rng.below(5) }, (_, id) => randomNode(rng, id));
      const members = 2 + rng.below(3);
      const asked = memberAsk(randomAsk(rng));
      const relaxations = minimalRelaxations(asked, nodes, members);
      const names = relaxations.map(({ constraints, members: on }) =>
        [...constraints.map(({ name }) => name), ...(on < members ? ['nodes'] : [])].join('+'),
      );
      const forced = bruteForce(asked, nodes, members);
      if (forced.length > RELAXATIONS_MAX) {
        expect(forced).toEqual(expect.arrayContaining(names));
        cut += 1;
        continue;
      }
      expect([...names].sort()).toEqual(forced.sort());
      found += names.length;
      for (const { waysIn, members: on } of relaxations) {
        const open = waysIn().map((way) => way.node);
        expect(open.length).toBeGreaterThanOrEqual(on);
        const less = open.slice(0, on).reduce(askingLess, asked);
        for (const one of open.slice(0, on)) {
          const left = obstacle(less, one);
          expect(left === null || left.lifted === 'by-waiting').toBe(true);
        }
      }
    }
    expect(found).toBeGreaterThan(SNAPSHOTS / 2);
    expect(cut).toBeLessThan(SNAPSHOTS / 8);
  });

  it('finds what lets all in, and leaves out what need not be, also where more sets would do than are looked at', () => {
    const GPU = { model: 'A10', vramMib: 9, milli: 1_000, freeMilli: 1_000 };
    const faults: Partial<Candidate>[] = [
      { region: 'us' },
      { isolation: 'none' },
      { reputation: 0.1 },
      { gpus: [{ ...GPU, model: 'T4' }] },
      { gpus: [{ ...GPU, vramMib: 1 }] },
      { gpus: [{ ...GPU, freeMilli: 0 }] },
      { models: served(900n, { capabilities: ['logprobs'] }) },
      { models: served(1n, { capabilities: ['logprobs'], rowsPerSecond: 0.01 }) },
      { models: served(1n) },
      { draining: true },
      { rest: { why: 'refused', forMs: 9_000 } },
      { isSchedulerFull: true },
      { benchedForMs: 5 },
    ];
    // Each has other work under way, and all but the last one thing more that keeps it away.
    const fleet = [...faults, {}].map((fault, id) =>
      node(`n${id}`, { leasesActive: 1, gpus: [GPU], models: served(1n, { capabilities: ['logprobs'] }), ...fault }),
    );
    const wishes = {
      regions: ['eu'],
      isolation: 'bwrap',
      reputationFloor: 0.9,
      gpus: 1,
      gpuMilli: 1_000,
      vramMib: 9,
    } as const;
    const asked = memberAsk(
      inClass(ask({ ...wishes, gpuModels: ['A10'], capabilities: ['logprobs'], deadlineInMs: 20_000 })),
    );
    const liftable = CONSTRAINTS.filter(({ lifted }) => lifted !== null);
    const kept = fleet.map((one) => letIn(asked, one, liftable));
    const open = (set: number): number => kept.filter((ways) => ways.some((needed) => (needed & ~set) === 0)).length;
    for (const members of [fleet.length, fleet.length - 1]) {
      const asItIs = minimalRelaxations(asked, fleet, members).filter((one) => one.members === members);
      expect(asItIs.map(({ constraints }) => constraints.length)).toEqual([members]);
      for (const { constraints, waysIn } of asItIs) {
        const ways = waysIn();
        const bits = constraints.map((one) => 1 << liftable.indexOf(one));
        const set = bits.reduce((all, bit) => all | bit, 0);
        expect([open(set), ways.length]).toEqual([members, members]);
        for (const bit of bits) expect(open(set & ~bit)).toBeLessThan(members);
      }
    }
  });

  it('names the cap that would do for as many as are missing, kind by kind, and none where the price is not all', () => {
    const paid = (id: string, inputToken: bigint, outputToken: bigint): Candidate =>
      node(id, { models: served(0n, { rates: { inputToken, outputToken } }) });
    const asked = ask({ rateCaps: { inputToken: 10n, outputToken: 10n } });
    const fleet = [paid('a', 1n, 1n), paid('b', 20n, 5n), paid('c', 5n, 60n), paid('d', 900n, 900n)];
    const of = (members: number): unknown => explainPlacement(asked, fleet, { members }).priceThatWouldDo;
    expect(of(2)).toEqual({ inputToken: '20', outputToken: '5' });
    expect(of(3)).toEqual({ inputToken: '20', outputToken: '60' });
    expect(of(5)).toBeNull();
  });

  it('says on how many it waits, how many are free, and how many nodes would do now', () => {
    const fleet = [node('a'), node('b'), node('c', { leasesActive: 1 }), node('d', { region: 'us' })];
    const why = explainPlacement(ask({ regions: ['eu'] }), fleet, { members: 3 });
    expect(why).toMatchObject({ fitting: 2, members: 3 });
    expect(why.summary).toContain('waits for 3 nodes at once, and 2 of 4 fit: 1 left out');
    expect(why.relaxations.map(({ constraints, changes }) => [constraints, changes[0]])).toEqual([
      [['region'], 'ask with metadata.region "eu,us"'],
      [['nodes'], 'ask with metadata.nodes "2"'],
      [['alone'], 'wait until a node is one that has nothing else under way'],
    ]);
    expect(explainNever(ask({ regions: ['eu'] }), fleet, 3)).toBeNull();
    expect(explainNever(ask({ regions: ['eu'] }), fleet, 4)?.relaxations.map((one) => one.changes)).toEqual([
      ['ask with metadata.region "eu,us"'],
      ['ask with metadata.nodes "3"'],
    ]);
  });
});

describe('explainPlacement', () => {
  it('counts each node once, under the first thing that keeps it away, and names the price that would do', () => {
    const explanation = explainPlacement(ask({ regions: ['eu'] }), [
      node('a', { region: 'us' }),
      node('b', {}, 400n),
      node('c', {}, 300n),
      node('d', { benchedForMs: 5 }),
      node('e', { models: [] }),
    ]);
    expect(explanation).toMatchObject({ nodes: 5, fitting: 0, priceThatWouldDo: { embeddingToken: '300' } });
    expect(Object.fromEntries(explanation.eliminated.map((e) => [e.constraint, e.nodes]))).toEqual({
      model: 1,
      region: 1,
      price: 2,
      benched: 1,
    });
    expect(explanation.summary).toContain('None of 5 nodes fits');
  });

  it('says so when nobody is there', () => {
    expect(explainPlacement(ask(), []).summary).toBe('No node is connected.');
  });

  it('names the smallest change first, with the value that would do, and the cheapest offer that would fit', () => {
    const fleet = [
      node('far', { region: 'us' }),
      node('dear', {}, 400n),
      node('dearest', {}, 900n),
      node('far-and-dear', { region: 'us' }, 300n),
      node('resting', { draining: true }, 120n),
    ];
    const explanation = explainPlacement(ask({ regions: ['eu'] }), fleet, {
      // oxlint-disable-next-line require-yield -- it is known at once
      maxCostFor: function* (_less, { embeddingToken = 0n }) {
        return embeddingToken > 100n ? `0.${String(embeddingToken)}` : undefined;
      },
    });
    expect(
      explanation.relaxations.map(({ constraints, nodes, inYourHands }) => [constraints, nodes, inYourHands]),
    ).toEqual([
      [['price'], 2, true],
      [['region'], 1, true],
    ]);
    expect(explanation.relaxations.map(({ changes, set }) => [changes, set])).toEqual([
      [['ask with metadata.max_cost "0.400"'], { 'metadata.max_cost': '0.400' }],
      [['ask with metadata.region "eu,us"'], { 'metadata.region': 'eu,us' }],
    ]);
    expect(explanation.cheapestOffer).toEqual({ rates: { embeddingToken: '120' }, withinCap: false });
    expect(explanation.summary).toContain('What would place it');
    // Who does not know what the job counts proposes no price, and what the others ask is still said.
    const unpriced = explainPlacement(ask({ regions: ['eu'] }), fleet);
    expect(unpriced.relaxations.map(({ constraints, isPriced }) => [constraints, isPriced])).toEqual([
      [['region'], false],
    ]);
    expect(unpriced.summary).toContain('What would place it, if what it may cost still does: ask with');
    expect(explanation.relaxations.map(({ isPriced }) => isPriced)).toEqual([true, true]);
    expect(unpriced.priceThatWouldDo).toEqual({ embeddingToken: '400' });
  });

  it('says to ask for the same again where its cap would be higher now', () => {
    const [relaxation] = explainPlacement(ask(), [node('dear', {}, 400n)], {
      // oxlint-disable-next-line require-yield -- it is known at once
      maxCostFor: function* () {
        return undefined;
      },
    }).relaxations;
    expect(relaxation).toMatchObject({
      set: {},
      changes: ['ask for the same again: its price cap would follow what is posted now'],
    });
  });

  it('offers no relaxation where nobody serves the model, and none where a node fits', () => {
    expect(explainPlacement(ask({ model: 'other' }), [node('a')]).relaxations).toEqual([]);
    expect(explainPlacement(ask(), [node('a'), node('b', { region: 'us' })]).relaxations).toEqual([]);
  });

  it('says when the first of those that rest is back, and names a scheduler that has no room', () => {
    const rest = (forMs: number): Rest => ({ why: 'it refused', forMs });
    const nodes = [node('a', { rest: rest(12_000) }), node('b', { rest: rest(30_000) })];
    const explanation = explainPlacement(ask(), [...nodes, node('c', { isSchedulerFull: true })]);
    expect(explanation.eliminated).toMatchObject([
      { constraint: 'resting', nodes: 2, endsInS: 12 },
      { constraint: 'scheduler-full', nodes: 1 },
    ]);
    expect(explanation.summary).toContain('(the first in 12 s)');
    expect(explanation.relaxations.every(({ inYourHands }) => !inYourHands)).toBe(true);
    const [lost] = explainNode(node('a', { rest: rest(12_000) }), [ask()], []).lost;
    expect(lost).toMatchObject({
      reason: 'resting',
      says: expect.stringContaining('this one does for 12 s: it refused'),
    });
  });

  it('does not say to wait for room that nobody asks for any more: fewer GPUs need less of it', () => {
    const gpu = { model: 'T4', vramMib: 16_384, milli: 500, freeMilli: 500 };
    const asked = ask({ gpus: 2, gpuMilli: 1_000 });
    const [relaxation, more] = explainPlacement(asked, [node('a', { gpus: [gpu] })]).relaxations;
    expect(relaxation).toMatchObject({ constraints: ['gpu-count', 'gpu-share'], inYourHands: true });
    expect(more).toBeUndefined();
    const [used] = explainPlacement(asked, [node('a', { gpus: [{ ...gpu, freeMilli: 0 }] })]).relaxations;
    expect(used).toMatchObject({ constraints: ['gpu-count', 'gpu-share', 'room'], inYourHands: false });
  });

  it('takes the time left as the placement does, which rounds it down', () => {
    const slow = node('a', { models: served(50n, { loaded: false, loadS: 62.5 }) });
    const asked = ask({ deadlineInMs: 63_000 });
    expect(placeTasks([{ ask: asked, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] }], [slow])).toEqual([]);
    expect(explainPlacement(asked, [slow])).toMatchObject({ fitting: 0, eliminated: [{ constraint: 'deadline' }] });
    expect(explainNever(asked, [slow])).toMatchObject({ fitting: 0 });
  });

  it('says to wait where only time helps', () => {
    const [relaxation] = explainPlacement(ask(), [node('a', { leasesActive: 2 })]).relaxations;
    expect(relaxation).toMatchObject({ constraints: ['busy'], inYourHands: false });
    expect(relaxation?.changes).toEqual(['wait until a node is one that has a free slot']);
  });
});

describe('explainNode', () => {
  it('counts the jobs it lost by reason, and names the price that would have won: there it wins, above it does not', () => {
    const own = node('own', {}, 80n);
    const others = [node('cheap', {}, 40n)];
    const asks = [ask(), ask({ jobId: 'far', regions: ['us'] })];
    const why = explainNode(own, asks, [own, ...others]);
    expect(why).toMatchObject({ considered: 2, won: 0, priceThatWouldWin: { rates: { embeddingToken: '39' } } });
    expect(why.lost.map(({ reason, jobs }) => [reason, jobs])).toEqual([
      ['dearer', 1],
      ['region', 1],
    ]);
    const winner = (rate: bigint): string | undefined =>
      placeTasks([{ ask: ask(), ageMs: 0, nextRow: 0, rowCount: 1, queued: [] }], [node('own', {}, rate), ...others])[0]
        ?.nodeId;
    expect(winner(39n)).toBe('own');
    expect(winner(41n)).toBe('cheap');
  });

  it('names that price in whole hundredths of what it asked', () => {
    for (const percent of [28, 29, 57, 58]) {
      const own = node('own', {}, 100n);
      const rival = node('rival', {}, BigInt(percent));
      const why = explainNode(own, [ask()], [own, rival]);
      // Of two that ask the same the first by name wins.
      expect(why.priceThatWouldWin).toEqual({ rates: { embeddingToken: String(percent) }, percentOfAsked: percent });
      expect(why.summary).toContain(`At ${percent} % of its rates`);
    }
  });

  it('says what else decided, and that no price would have won where none would', () => {
    const cold = node('cold', { models: served(40n, { loaded: false }) });
    const warm = node('warm', {}, 40n);
    const soon = ask({ deadlineInMs: 30_000 });
    expect(explainNode(cold, [soon], [warm]).lost).toMatchObject([{ reason: 'colder' }]);
    const full = node('full', { leasesActive: 1 }, 1n);
    expect(explainNode(full, [ask()], [warm])).toMatchObject({ lost: [{ reason: 'busier' }], priceThatWouldWin: null });
    expect(explainNode(node('idle'), [], []).summary).toBe('No job has rows that wait for a node.');
    expect(explainNode(node('a'), [ask()], [node('b')])).toMatchObject({ won: 1 });
  });

  it(`is next where the placement would take it, alone or as a member, on ${SNAPSHOTS} random fleets`, () => {
    const rng = chance(41);
    const tally = { next: 0, lost: 0, member: 0 };
    for (let round = 0; round < SNAPSHOTS; round += 1) {
      const nodes = Array.from({ length: 2 + rng.below(6) }, (_, id) => freeNode(rng, id));
      const members = [undefined, 2, 3][rng.below(3)];
      const {
        avoidNode: _,
        avoidForMs: __,
        ...asked
      } = ask({
        regions: rng.pick([[], ['eu']]),
        gpus: rng.pick([0, 0, 1]),
        deadlineInMs: rng.pick([10_000, 3_600_000]),
      });
      // Who decides keeps nodes himself: those that are kept for others are not there.
      const others = nodes.filter((one) => one.reserved?.jobId !== 'other');
      const demand = { ask: asked, ageMs: 0, nextRow: 0, rowCount: members ?? 1, queued: [] };
      const placed = placeTasks([members === undefined ? demand : { ...demand, gang: members }], others);
      const chosen = placed.slice(0, members ?? 1).map(({ nodeId }) => nodeId);
      for (const one of nodes) {
        const turns = new NodeTurns(one, new Lineup(nodes));
        turns.consider(asked, members);
        const { won, lost, considered, priceThatWouldWin: win } = turns.explanation();
        expect([round, one.nodeId, won]).toEqual([round, one.nodeId, chosen.includes(one.nodeId) ? 1 : 0]);
        expect(lost.reduce((sum, { jobs }) => sum + jobs, won)).toBe(considered);
        tally.next += won;
        tally.lost += lost.length;
        if (members !== undefined && won === 1 && chosen[0] !== one.nodeId) tally.member += 1;
        if (win === null) continue;
        const cheaper = others.map((other) =>
          other.nodeId === one.nodeId
            ? {
                ...one,
                models: one.models.map((model) => ({
                  ...model,
                  rates: { embeddingToken: BigInt(win.rates['embeddingToken'] ?? 0) },
                })),
              }
            : other,
        );
        const then = placeTasks([members === undefined ? demand : { ...demand, gang: members }], cheaper);
        expect(then.slice(0, members ?? 1).map(({ nodeId }) => nodeId)).toContain(one.nodeId);
      }
    }
    expect(Math.min(tally.next, tally.lost, tally.member)).toBeGreaterThan(SNAPSHOTS / 8);
  });

  it('has no rival in a node that is kept for another, and one in a node that is kept for this job', () => {
    const own = node('own', {}, 80n);
    const keptFor = (jobId: string): Candidate => node('cheap', { reserved: { jobId, forMs: 9_000 } }, 40n);
    expect(explainNode(own, [ask()], [own, keptFor('other')])).toMatchObject({ won: 1, lost: [] });
    expect(explainNode(own, [ask()], [own, keptFor('job')])).toMatchObject({ won: 0, lost: [{ reason: 'dearer' }] });
  });

  it('counts a gang only where it could begin, with this node or beside it, on the nodes of one scheduler', () => {
    const fleet = ['a', 'b', 'c', 'd', 'e'].map((id) => node(id, { scheduler: id < 'c' ? 0 : 1 }));
    const of = (id: string, members: number): NodeExplanation => {
      const turns = new NodeTurns(fleet.find(({ nodeId }) => nodeId === id) as Candidate, new Lineup(fleet));
      turns.consider(ask(), members);
      return turns.explanation();
    };
    expect(of('b', 2)).toMatchObject({ considered: 1, won: 1 });
    expect(of('d', 2)).toMatchObject({ considered: 1, won: 1 });
    expect(of('e', 2)).toMatchObject({ considered: 1, won: 0, lost: [{ reason: 'even' }] });
    expect(of('a', 3)).toMatchObject({ considered: 1, won: 0, lost: [{ reason: 'scheduler' }] });
    expect(of('e', 3)).toMatchObject({ considered: 1, won: 1 });
    expect(of('e', 4)).toMatchObject({ considered: 0, lost: [] });
  });

  it('counts a gang that lacks a member only for a node that could be it, at some price', () => {
    const pair = [node('a'), node('b')];
    const of = (own: Candidate, asked: Ask): NodeExplanation => {
      const turns = new NodeTurns(own, new Lineup([own, ...pair]));
      turns.consider(asked, 3);
      return turns.explanation();
    };
    const elsewhere = node('own', { region: 'us-east' });
    expect(of(elsewhere, ask({ regions: ['eu'] }))).toMatchObject({ considered: 0, lost: [] });
    const capped = ask({ regions: ['eu'], rateCaps: { embeddingToken: 60n } });
    expect(of(node('own', {}, 80n), capped)).toMatchObject({ considered: 1, lost: [{ reason: 'price' }] });
    expect(of(elsewhere, capped)).toMatchObject({ considered: 0, lost: [] });
    expect(of(node('own'), ask({ regions: ['eu'] }))).toMatchObject({ considered: 1, won: 1 });
  });

  it('does not call a node cheaper that is only as good', () => {
    const why = explainNode(node('b'), [ask()], [node('a')]);
    expect(why.lost).toMatchObject([{ reason: 'even', says: expect.stringContaining('chance decides') }]);
  });

  it("finds the price of a pool's node, which may not work for nothing", () => {
    const own = node('own', { pools: ['lab'] }, 80n);
    const why = explainNode(own, [ask()], [own, node('cheap', {}, 40n)]);
    expect(why.priceThatWouldWin).toEqual({ rates: { embeddingToken: '39' }, percentOfAsked: 49 });
    const capped = explainNode(own, [ask({ rateCaps: { embeddingToken: 60n } })], [own]);
    expect(capped).toMatchObject({ lost: [{ reason: 'price' }], priceThatWouldWin: { percentOfAsked: 76 } });
  });

  it('names what a benched node is benched for', () => {
    const benched = node('own', { benchedForMs: 5, benchedWhy: 'audit: called a row good, which is proven bad' });
    const [lost] = explainNode(benched, [ask()], [node('b')]).lost;
    expect(lost).toMatchObject({ reason: 'benched' });
    expect(lost?.says).toContain('this one is: audit: called a row good, which is proven bad');
  });
});

describe('explainPast', () => {
  const work = (over: Partial<PastWork>): PastWork => ({
    ...{ ask: ask(), isOwn: false, paid: [], refused: null, takenBack: null },
    ...over,
  });
  const past = (own: Candidate, works: readonly PastWork[]): PastExplanation =>
    explainPast(own, works, { withinMs: 3_600_000, hasMore: false });
  const paying = (...rates: bigint[]): Pick<PastWork, 'paid'> => ({
    paid: rates.map((embeddingToken) => ({ embeddingToken })),
  });

  it('counts by the first requirement that the offer does not meet, then by price, then by who was better', () => {
    const said = past(node('own', {}, 80n), [
      work({ ask: ask({ regions: ['us'] }), ...paying(200n) }),
      work({ ask: ask({ rateCaps: { embeddingToken: 60n } }), ...paying(50n) }),
      work(paying(20n, 40n)),
      work(paying(20n, 90n)),
      work({ isOwn: true, ...paying(80n) }),
    ]);
    expect(said).toMatchObject({ considered: 5, won: 1 });
    expect(Object.fromEntries(said.lost.map(({ reason, jobs }) => [reason, jobs]))).toEqual({
      ...{ region: 1, price: 1, dearer: 1, 'passed-over': 1 },
    });
    // Of the job with the cap 60: 50 of its 80 are 62 %.
    expect(said.priceThatWouldHaveWon).toEqual({ rates: { embeddingToken: '49' }, percentOfAsked: 62 });
    expect(said.summary).toContain('Of 5 batches of its models it worked on 1. It had no part in 4:');
    expect(said.summary).toContain('At 62 % of its rates');
  });

  it('names no price above the cap of one kind, however little the others ask', () => {
    const caps = { inputToken: 50n, outputToken: 10n };
    const own = node('own', { models: served(0n, { rates: { inputToken: 10n, outputToken: 40n } }) });
    const said = past(own, [work({ ask: ask({ rateCaps: caps }), paid: [{ inputToken: 19n, outputToken: 9n }] })]);
    expect(said.priceThatWouldHaveWon).toEqual({ rates: { inputToken: '2', outputToken: '10' }, percentOfAsked: 25 });
  });

  it('names no price where none would have done, and says so where nothing was over', () => {
    const far = past(node('own', {}, 80n), [work({ ask: ask({ regions: ['us'] }), ...paying(10n) })]);
    expect(far.priceThatWouldHaveWon).toBeNull();
    const free = past(node('own', {}, 80n), [work(paying(0n))]);
    expect(free).toMatchObject({ lost: [{ reason: 'dearer' }], priceThatWouldHaveWon: null });
    expect(past(node('own'), []).summary).toBe('No batch of its models was over.');
  });

  it('leaves out what was of the moment: who is benched or full now had its part before', () => {
    const now = node('own', { benchedForMs: 9, draining: true, leasesActive: 2 }, 10n);
    expect(past(now, [work(paying(10n))]).lost).toMatchObject([{ reason: 'passed-over' }]);
  });

  it('says what it turned away itself before anything else, whether or not it had a part', () => {
    const refused = { leases: 2, why: 'busy' };
    const far = work({ ask: ask({ regions: ['us'] }), refused, ...paying(200n) });
    const said = past(node('own', {}, 80n), [far, work({ isOwn: true, refused, ...paying(80n) }), work(paying(90n))]);
    expect(said).toMatchObject({ considered: 3, won: 1, refused: 4 });
    expect(said.lost.map(({ reason, jobs }) => [reason, jobs])).toEqual([
      ['passed-over', 1],
      ['refused', 1],
    ]);
    expect(said.summary).toContain('1 because it was given rows of it and turned them away itself: busy');
    expect(said.summary).toContain('It turned 4 leases of them away itself.');
  });

  it('says what was taken back from it, and not that others asked less', () => {
    const takenBack = { leases: 2, why: 'kept: it was asked' };
    const said = past(node('own', {}, 80n), [work({ takenBack, ...paying(40n) })]);
    expect(said).toMatchObject({ won: 0, takenBack: 2, lost: [{ reason: 'taken-back' }], priceThatWouldHaveWon: null });
    expect(said.summary).toContain('1 because it was given rows of it, and they were taken back: kept: it was asked.');
    expect(said.summary).toContain('2 leases of them were taken back from it.');
  });
});
