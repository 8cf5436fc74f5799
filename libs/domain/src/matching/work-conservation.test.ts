import { expect, it } from '@jest/globals';
import type { Candidate, ServedModel } from './ask.ts';
import { chance, type Chance } from './chance.ts';
import { LEASES_AHEAD, obstacle, takesWork } from './constraints.ts';
import type { Demand, Placement } from './demand.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { AVOID_MS, Placer } from './placer.ts';

/** Work conservation, as a rule: after a decision nothing waits beside a node that it fits, but for a reason that has a name. */
const MARKETS = 150;
const MODELS = ['common', 'usual', 'rare', 'lonely'];
const REGIONS = ['eu', 'us'];

function randomModel(rng: Chance, name: string): ServedModel {
  const facts = { name, digest: `d${rng.below(3)}`, engineClass: rng.pick(['a', 'b']), loaded: rng.below(4) > 0 };
  const rates = { embeddingToken: BigInt(rng.pick([20, 50, 150])) };
  const capabilities = rng.pick([[], [], ['lora' as const]]);
  return { ...facts, rates, rowsPerSecond: rng.pick([0, 1, 100]), isClaimed: rng.below(3) === 0, capabilities };
}

/** The first alone serves the model that nobody else does. */
function randomNode(rng: Chance, id: number): Candidate {
  const served = MODELS.filter((name, i) => (name === 'lonely' ? id === 0 : rng.below(i + 2) === 0));
  const models = served.flatMap((name) => [randomModel(rng, name), randomModel(rng, name)].slice(rng.below(2)));
  return candidate(`n${id}`, {
    models,
    region: rng.pick(REGIONS),
    rowsAccepted: rng.pick([0, 100]),
    leasesActive: id === 0 ? 0 : rng.below(LEASES_AHEAD + 1),
    rowsUnaccepted: rng.pick([0, 0, 500, 2_040]),
    draining: rng.below(10) === 0,
    benchedForMs: rng.below(10) === 0 ? 1_000 : 0,
  });
}

function randomDemand(rng: Chance, jobId: string, nodes: number): Demand {
  const lost = rng.below(3) === 0;
  const task = { taskId: `${jobId}-t`, epoch: 2, rowFrom: 0, rowTo: 4 };
  const back = { ...task, lastNode: `n${rng.pick([0, 0, rng.below(nodes)])}`, waitedMs: rng.pick([0, AVOID_MS]) };
  return {
    ask: askFor({
      jobId,
      model: rng.pick(MODELS),
      regions: rng.pick([[], [], ['eu'], ['nowhere']]),
      capabilities: rng.pick([[], [], ['lora']]),
      rateCaps: { embeddingToken: BigInt(rng.pick([10, 60, 200])) },
      deadlineInMs: rng.pick([5_000, 60_000, 3_600_000]),
      ...(rng.below(4) === 0 ? { loadGainS: rng.pick([0, 30]) } : {}),
    }),
    ageMs: rng.below(10_000),
    nextRow: 4,
    rowCount: 4 + rng.pick([0, 0, 1, 40, 600]),
    queued: lost ? [back] : [],
    isRun: rng.below(8) === 0,
  };
}

it(`leaves nothing waiting beside a node that it fits, but for a while what that node lost, in ${MARKETS} random markets of many models`, () => {
  const rng = chance(11);
  let waits = 0;
  let places = 0;
  for (let market = 0; market < MARKETS; market += 1) {
    const count = 1 + rng.below(30);
    const placer = new Placer(rng.below(3));
    for (let id = 0; id < count; id += 1) placer.put(randomNode(rng, id));
    const demands = Array.from({ length: rng.pick([2, 5, 100]) }, (_, i) => randomDemand(rng, `j${i}`, count));
    const placed = placer.place(demands);
    places += placed.length;
    for (const demand of demands) {
      waits += 1;
      const beside = whoFits(demand, placed, [...placer.candidates()]);
      if (beside !== undefined) expect({ market, waits: demand, beside }).toBeUndefined();
    }
    for (const { nodeId, leasesActive } of placer.candidates())
      if (leasesActive > LEASES_AHEAD) expect({ market, nodeId, leasesActive }).toBeUndefined();
  }
  expect(waits).toBeGreaterThan(MARKETS * 10);
  expect(places).toBeGreaterThan(MARKETS * 3);
});

/** A node that could begin, as it stands after the decision, on something of a demand that was left waiting. */
function whoFits(demand: Demand, placed: readonly Placement[], nodes: readonly Candidate[]): Candidate | undefined {
  const own = placed.filter(({ jobId }) => jobId === demand.ask.jobId);
  if (demand.isRun === true && own.length > 0) return undefined;
  // A decision loads a model once: the next one knows of it.
  const isLoading = placed.some(({ model }) => model.name === demand.ask.model && !model.loaded);
  const ask = isLoading && demand.ask.loadGainS !== undefined ? { ...demand.ask, loadGainS: 0 } : demand.ask;
  const fits = nodes.filter((node) => obstacle(ask, node) === null);
  const rowsLeft = Math.max(demand.nextRow, ...own.filter(({ taskId }) => taskId === null).map(({ rowTo }) => rowTo));
  if (demand.isRun !== true && rowsLeft < demand.rowCount) return fits[0];
  const [back] = demand.queued;
  if (back === undefined || own.some(({ taskId }) => taskId === back.taskId))
    return demand.isRun === true && rowsLeft < demand.rowCount ? fits[0] : undefined;
  const others = nodes.filter(
    (node) => takesWork(node) && obstacle(ask, { ...node, leasesActive: 0, rowsUnaccepted: 0 }) === null,
  );
  const isPatient = demand.isRun !== true && (back.waitedMs ?? 0) < AVOID_MS && others.length > 1;
  return fits.find(({ nodeId }) => !isPatient || nodeId !== back.lastNode);
}
