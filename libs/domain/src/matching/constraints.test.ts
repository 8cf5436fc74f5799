import { describe, expect, it } from '@jest/globals';
import type { Ask, Candidate, ServedModel } from './ask.ts';
import { CONSTRAINTS, LEASES_AHEAD, obstacle, ROWS_UNACCEPTED_MAX } from './constraints.ts';
import { askFor, candidate, economyOf } from './matching.fixture.ts';
import { PlacementIndex } from './placement-index/placement-index.ts';
import { bestByScan } from './placement-index/scan.ts';
import { Placer } from './placer.ts';

const economy = economyOf([]);
const GPU = { model: 'A10', vramMib: 24_576, milli: 1_000, freeMilli: 1_000 };
const MODEL: ServedModel = {
  ...{ name: 'm', digest: 'd', engineClass: 'c', loaded: true, rates: { inputToken: 50n }, rowsPerSecond: 10 },
  capabilities: ['logprobs'],
};
const FITTING = candidate('n', {
  ...{ gpus: [GPU, GPU], cpuFreeMilli: 8_000, memoryFreeMib: 16_384, isolation: 'gvisor', pools: [], reputation: 0.95 },
  ...{ models: [MODEL], rowsAccepted: 1_000, modelRoomMib: 20_000 },
});
const ASK = askFor({
  ...{ model: 'm', rateCaps: { inputToken: 100n }, deadlineInMs: 60_000, capabilities: ['logprobs'], regions: ['eu'] },
  ...{ gpuModels: ['A10', 'L4'], gpus: 2, gpuMilli: 600, vramMib: 20_000, cpuMilli: 4_000, memoryMib: 8_192 },
  ...{ isolation: 'bwrap', reputationFloor: 0.9 },
});

/** A node that fits but for one thing: what it has otherwise, and what is asked where the ask has to say more to be told. */
interface Row {
  readonly node?: Partial<Candidate>;
  readonly model?: Partial<ServedModel>;
  readonly ask?: Partial<Ask>;
  /** Who has fewer has fewer free. */
  readonly also?: readonly string[];
  /** What keeps it away in the index beside what it is put with. */
  readonly avoid?: string;
  readonly isHeld?: true;
  /** For those who explain alone: a decision has its own way to keep to it. */
  readonly isExplained?: true;
}

const COLD: Partial<ServedModel> = { loaded: false, loadS: 5 };
const gpus = (over: Partial<typeof GPU>): Partial<Candidate> => ({ gpus: [GPU, { ...GPU, ...over }] });

/** By the names of the constraints, all of them. */
const ROWS: Readonly<Record<string, readonly Row[]>> = {
  model: [
    { model: { name: 'other' }, ask: { capabilities: [] } },
    { model: { kind: 'embedding' }, ask: { modelKind: 'chat', capabilities: [] } },
  ],
  'model-memory': [{ model: { ...COLD, isClaimed: true, memoryMib: 20_001 } }],
  capability: [{ model: { capabilities: [] } }],
  'gpu-model': [{ node: gpus({ model: 'T4' }) }],
  'gpu-count': [{ node: { gpus: [GPU] }, also: ['room'] }],
  'gpu-share': [{ node: gpus({ milli: 599 }) }],
  vram: [{ node: gpus({ vramMib: 19_999 }) }],
  region: [{ node: { region: 'us' } }],
  pool: [
    { ask: { pools: ['lab'] }, node: { pools: ['chair'] } },
    { node: { pools: ['lab'] }, model: { rates: {} } },
  ],
  isolation: [{ node: { isolation: 'none' } }],
  reputation: [{ node: { reputation: 0.89 } }],
  price: [{ model: { rates: { inputToken: 101n } } }],
  deadline: [{ model: { ...COLD, loadS: 60 } }, { model: { rowsPerSecond: 1 / 61 } }],
  scheduler: [{ ask: { alone: true }, node: { isElsewhere: true }, isExplained: true }],
  'warm-wait': [
    { ask: { loadGainS: 3 }, model: { ...COLD, evictS: 4 } },
    { model: { ...COLD, evictS: Number.POSITIVE_INFINITY } },
  ],
  room: [{ node: gpus({ freeMilli: 599 }) }, { node: { cpuFreeMilli: 3_999 } }, { node: { memoryFreeMib: 8_191 } }],
  alone: [{ ask: { alone: true }, node: { leasesActive: 1 } }],
  benched: [{ node: { benchedForMs: 1 } }],
  draining: [{ node: { draining: true } }],
  resting: [{ node: { rest: { why: 'it refused', forMs: 1 } } }],
  'scheduler-full': [{ node: { isSchedulerFull: true } }],
  reserved: [{ node: { reserved: { jobId: 'other', forMs: 1 } }, isHeld: true }],
  busy: [{ node: { leasesActive: LEASES_AHEAD } }],
  unaccepted: [{ node: { rowsUnaccepted: ROWS_UNACCEPTED_MAX } }],
  avoided: [{ ask: { avoidNode: 'n' }, avoid: 'n' }],
};

const each = Object.entries(ROWS).flatMap(([name, rows]) =>
  rows.map((row, i): [string, number, Row] => [name, i, row]),
);

/** The node as a row of the table has it, or as it would fit. */
function askOf({ ask = {} }: Row): Ask {
  return { ...ASK, ...ask };
}

function nodeOf({ node = {}, model = {} }: Row): Candidate {
  return { ...FITTING, ...node, models: [{ ...MODEL, ...model }] };
}

/** Nothing of the row but what would have to be asked: a member of a pool. */
function fittingFor(ask: Ask): Candidate {
  return { ...FITTING, nodeId: 'z', pools: ask.pools };
}

describe('each constraint of the registry', () => {
  it('has a row here, and each row a constraint', () => {
    expect(Object.keys(ROWS)).toEqual(CONSTRAINTS.map(({ name }) => name));
  });

  it.each(each)('%s alone keeps a node away that fits otherwise (%i)', (name, _, row) => {
    const [ask, node] = [askOf(row), nodeOf(row)];
    expect(obstacle(ask, fittingFor(ask))).toBeNull();
    expect(obstacle(ask, node)?.name).toBe(name);
    expect(CONSTRAINTS.filter(({ holds }) => !holds(ask, node)).map((one) => one.name)).toEqual([
      name,
      ...(row.also ?? []),
    ]);
    const scanned = [node, fittingFor(ask)];
    expect(bestByScan(economy, ask, scanned)).toMatchObject({ node: 1 });
    expect(bestByScan(economy, ask, scanned.slice(0, 1))).toBeNull();
  });

  it.each(each.filter(([, , { isExplained }]) => isExplained !== true))(
    '%s is kept to by the index, beside a node that fits and without (%i)',
    (_name, _i, row) => {
      const ask = askOf(row);
      const index = new PlacementIndex(2, economy);
      const number = index.put(nodeOf(row));
      if (row.isHeld === true) index.hold(number);
      const task = index.classOf(ask);
      expect(index.best(task, row.avoid ?? null)).toBeNull();
      const other = index.put(fittingFor(ask));
      expect(index.best(task, row.avoid ?? null)?.node).toBe(other);
      if (row.avoid !== undefined) return;
      // It comes to fit, and goes away again: what was known of it is not what counts.
      index.drop('z');
      const { nodeId } = nodeOf(row);
      index.put({ ...fittingFor(ask), nodeId });
      index.release(number);
      expect(index.best(task)?.node).toBe(number);
      index.put(nodeOf(row));
      if (row.isHeld === true) index.hold(number);
      expect(index.best(task)).toBeNull();
    },
  );

  // A decision asks a task that came back, and a gang, in ways of its own: see place.test.ts and gangs.test.ts.
  it.each(each.filter(([name]) => !['scheduler', 'alone', 'reserved', 'avoided'].includes(name)))(
    '%s is kept to by the placement (%i)',
    (_name, _i, row) => {
      const ask = askOf(row);
      const placer = new Placer();
      placer.put(nodeOf(row));
      const demand = { ask, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] };
      expect(placer.place([demand])).toEqual([]);
      placer.put(fittingFor(ask));
      expect(placer.place([demand])).toMatchObject([{ nodeId: 'z' }]);
    },
  );

  it.each(['avoided', 'reserved'])('%s says for how long', (name) => {
    const [row = {}] = ROWS[name] ?? [];
    const constraint = CONSTRAINTS.find((one) => one.name === name);
    expect(constraint?.endsInMs?.({ ...askOf(row), avoidForMs: 1 }, nodeOf(row))).toBe(1);
  });
});
