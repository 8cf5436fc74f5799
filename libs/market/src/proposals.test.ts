import { describe, expect, it } from '@jest/globals';
import {
  atOnce,
  chance,
  CONSTRAINTS,
  explainPlacement,
  idleNode,
  ISOLATIONS,
  WISHES,
  type Candidate,
  type Chance,
  type Explanation,
  type Usage,
} from '@freehold/domain';
import {
  FINE_TUNE_ENDPOINT,
  parseBatchRequest,
  parseFineTuningRequest,
  type Catalogue,
  type Offer,
} from '@freehold/protocol';
import { askOfJob, windowOf } from './ask-of.ts';
import { candidateOf } from './candidate-of.ts';
import { maxCostFor, pricedJob, pricesFor } from './max-cost.ts';
import type { JobView } from './ports/job-store.ts';
import type { NodeRecord } from './ports/lease-store.ts';
import { trainerModel } from './training/trainer-model.ts';

const ROUNDS = 3_000;
const ENDPOINT = '/v1/chat/completions';
const TUNED = { name: 'ft:m:mine', adapter: 'a'.repeat(64) };
const NAMES = { batch: ['m', 'm', 'm', 'm'], 'fine-tune': Array.from({ length: 4 }, () => trainerModel('m')) } as const;
const RATES = ['0', '20', '50', '90', '400', '2500'];

/** A request as it is written: a batch, and the model that its rows name. */
interface Written {
  readonly model: string;
  readonly completion_window: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What is asked for: rows that a model answers, or one that is trained. */
type Work = 'batch' | 'fine-tune';

interface Market {
  readonly offers: readonly Offer[];
  readonly candidates: readonly Candidate[];
  readonly catalogue: Catalogue;
  readonly worst: Usage;
}

function randomOffer(rng: Chance, no: number, work: Work): Offer {
  const model = rng.pick(['T4', 'A10', 'A100, 80 GB', 'x'.repeat(64)]);
  const gpu = { model, vramMib: rng.pick([0, 16_384, 24_576]), milli: rng.pick([500, 900, 1_000]) };
  const engine = {
    ...{
      name: rng.pick([...NAMES[work], 'other']),
      digest: 'd',
      kind: work === 'batch' ? 'chat' : work,
      contextTokens: 64,
    },
    ...{
      loaded: rng.pick([true, true, false]),
      rowsPerSecond: rng.pick([0.000_001, 1 / (1 + rng.below(9_000)), 10, 10]),
    },
    rates:
      work === 'batch'
        ? { inputToken: rng.pick(RATES), outputToken: rng.pick(RATES) }
        : { trainingToken: rng.pick(RATES) },
    caps: { lora: rng.pick([true, true, false]) },
    quantisation: '',
    slots: 1,
  };
  const facts = { cpuMilli: 1, memoryMib: 1, pools: [], isolation: rng.pick(ISOLATIONS) };
  return {
    ...{ node: `n${no}`, payout: `n${no}`, ...facts, region: rng.pick(['eu', 'us', 'sa', 'on the moon', '']) },
    gpus: Array.from({ length: rng.below(3) }, () => gpu),
    engines: [{ class: 'c', models: [engine] }],
  } as unknown as Offer; // what a placement is made of
}

function randomRecord(rng: Chance, nodeId: string): NodeRecord {
  const counts = { rowsAccepted: rng.pick([0, 7, 1_000]), rowsAudited: 0, rowsBad: rng.pick([0, 0, 1]) };
  return {
    ...{ nodeId, payout: nodeId, ...counts, leasesLost: rng.below(3), rowsInFlight: 0, speed: {} },
    ...{ leasesInFlight: rng.pick([0, 0, 0, 1, 2]), benchedForMs: rng.pick([0, 0, 0, 5]), benchedWhy: null },
  };
}

function randomMarket(rng: Chance, work: Work): Market {
  const offers = Array.from({ length: 1 + rng.below(5) }, (_, no) => randomOffer(rng, no, work));
  const listed = {
    name: 'm',
    kind: 'chat',
    contextTokens: 64,
    ceilings: { inputToken: '100', outputToken: '90' },
    trainingCeiling: '90',
  };
  const catalogue = { v: 1, models: rng.pick([[], [], [listed]]) } as unknown as Catalogue; // likewise
  const candidates = offers.map((offer) => ({
    ...candidateOf({ id: offer.node, offer, draining: rng.below(9) === 0 }, randomRecord(rng, offer.node)),
    // Finer than anybody asks for it.
    ...rng.pick([{}, { reputation: rng.unit() }]),
  }));
  const some = (): bigint => BigInt(1 + rng.below(9_000_000));
  const worst: Usage = work === 'batch' ? { inputToken: some(), outputToken: some() } : { trainingToken: some() };
  return { offers, candidates, catalogue, worst };
}

const FIFTEEN = Array.from({ length: 15 }, (_, no) => `r${no}`).join(',');

/** Some of all that a requester may set. */
function randomRequest(rng: Chance): Written {
  const wishes: Record<string, readonly string[]> = {
    region: ['eu', 'nowhere', FIFTEEN, `${FIFTEEN},r15`],
    gpu_model: ['A10', 'T4, L4', `A10,${'y'.repeat(64)}`],
    gpus: ['1', '2', '9'],
    gpu_milli: ['600', '1000'],
    vram_mib: ['20000', '80000'],
    isolation: ['gvisor', 'cvm'],
    reputation_floor: ['0.9', '0.95', '1'],
    max_cost: ['0.0002', '0.001', '0.01', '5'],
    deadline: ['1m', '4m', '30h'],
    nodes: ['2', '3'],
  };
  const metadata = Object.fromEntries(
    Object.entries(wishes).flatMap(([key, values]) => (rng.below(5) === 0 ? [[key, rng.pick(values)]] : [])),
  );
  return {
    model: rng.pick(['m', 'm', TUNED.name]),
    completion_window: rng.pick(['1m', '3m', '24h']),
    metadata: { ...metadata, own: 'x' },
  };
}

/** As a job is taken: parsed, priced by what it was read to count as, and looked at where it stands. Null where its money does not do. */
async function explained(work: Work, request: Written, market: Market, isIdle: boolean): Promise<Explanation | null> {
  const { completion_window: completionWindow, metadata } = request;
  const batch = { input_file_id: 'file-1', endpoint: ENDPOINT, completion_window: completionWindow, metadata };
  const parsed =
    work === 'batch'
      ? parseBatchRequest(batch, 0)
      : parseFineTuningRequest({ model: 'm', training_file: 'file-1', metadata }, 0);
  if (!parsed.ok) throw new Error(`${JSON.stringify(request)}: ${parsed.problem.message}`);
  const { terms, deadlineInMs } = parsed.value;
  const model = work === 'batch' ? 'm' : trainerModel('m');
  const tuned = request.model === 'm' ? null : TUNED;
  const { region } = terms;
  const endpoint = work === 'batch' ? ENDPOINT : FINE_TUNE_ENDPOINT;
  const job = { id: 'j', kind: work, endpoint, region, verify: 'spot', metadata, poolId: null, tuned } as const;
  const taken = { ...job, model, worst: market.worst, inputFileId: 'file-1', completionWindow } as unknown as JobView; // what is priced
  // Its file is gone, or too large to look into.
  const objects = { size: () => Promise.resolve(null), read: () => Promise.reject(new Error('it was read')) as never };
  const ports = { objects, offers: { offers: () => Promise.resolve(market.offers) }, catalogue: market.catalogue };
  const priced = await pricedJob(ports, taken);
  if (priced === undefined) return null;
  const cap = atOnce(pricesFor(priced, region, terms.needs, tuned !== null)).cap(terms.maxCost);
  if (!cap.ok) return null;
  const ask = askOfJob({ ...job, rateCaps: cap.rateCaps }, model, deadlineInMs);
  const nodes = isIdle ? market.candidates.map(idleNode) : market.candidates;
  const bounds = { members: terms.gang ?? 1, windowMs: windowOf(taken) };
  return explainPlacement(ask, nodes, { ...bounds, maxCostFor: maxCostFor(priced) });
}

/** The request with what is proposed: as the machine reads it. */
function followed(request: Written, set: Readonly<Record<string, string | null>>): Written {
  let changed = request;
  for (const [param, value] of Object.entries(set)) {
    const key = param.replace(/^metadata\./, '');
    if (key === param) changed = { ...changed, [param]: value };
    else {
      const { [key]: _, ...others } = changed.metadata;
      changed = { ...changed, metadata: value === null ? others : { ...others, [key]: value } };
    }
  }
  return changed;
}

/** What the words say, word by word. */
function read(changes: readonly string[]): Record<string, string | null> {
  const set: Record<string, string | null> = {};
  for (const change of changes) {
    const [, without, param, value] = /^ask (?:without (\S+)|with (\S+) (".*"))$/.exec(change) ?? [];
    if (without !== undefined) set[without] = null;
    else if (param !== undefined && value !== undefined) set[param] = JSON.parse(value) as string;
    else expect(change).toMatch(/^wait until a node is one that /);
  }
  return set;
}

const ASKED = CONSTRAINTS.filter(({ lifted }) => lifted === 'by-asking-less').map(({ name }) => name);
/** A fine-tune answers no rows, and begins on one node. */
const FOLLOWED: Readonly<Record<Work, readonly string[]>> = {
  batch: [...ASKED, 'nodes'],
  'fine-tune': ASKED.filter((name) => name !== 'capability'),
};

describe('what an explanation proposes', () => {
  it.each<Work>(['batch', 'fine-tune'])(
    `is taken word by word, and places the work, for every wish a %s may have, in ${ROUNDS} random markets`,
    async (work) => {
      const rng = chance(23);
      const followedBy = new Map<string, number>();
      for (let round = 0; round < ROUNDS; round += 1) {
        const market = randomMarket(rng, work);
        const request = requestOf(work, randomRequest(rng));
        const first = await explained(work, request, market, false);
        for (const { set, changes, constraints, inYourHands, isPriced } of first?.relaxations ?? []) {
          expect([read(changes), isPriced]).toEqual([set, true]);
          const then = followed(request, set);
          const waits = constraints.length > 0 && !inYourHands;
          const now = await explained(work, then, market, waits);
          const is = now !== null && now.fitting >= (now.members ?? 1);
          const says = is ? 'placed' : JSON.stringify({ request, then, constraints, now });
          expect([round, says]).toEqual([round, 'placed']);
          for (const name of constraints) followedBy.set(name, (followedBy.get(name) ?? 0) + 1);
        }
      }
      expect(Object.keys(WISHES)).toEqual(ASKED);
      for (const name of FOLLOWED[work]) expect([name, (followedBy.get(name) ?? 0) > 50]).toEqual([name, true]);
    },
  );
});

/** A fine-tune is of a model itself, and begins on one node. */
function requestOf(work: Work, request: Written): Written {
  const { nodes: _, ...metadata } = request.metadata;
  return work === 'batch' ? request : { ...request, model: 'm', metadata };
}
