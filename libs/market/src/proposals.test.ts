import { describe, expect, it } from '@jest/globals';
import {
  atOnce,
  capFor,
  chance,
  CONSTRAINTS,
  explainPlacement,
  idleNode,
  ISOLATIONS,
  WISHES,
  type Candidate,
  type Chance,
  type Explanation,
  type Rates,
  type Usage,
} from '@freehold/domain';
import { parseBatchRequest, type Catalogue, type Offer } from '@freehold/protocol';
import { askOfJob, windowOf } from './ask-of.ts';
import { candidateOf } from './candidate-of.ts';
import { knownModel } from './known-models.ts';
import { maxCostFor, pricedAs } from './max-cost.ts';
import type { NodeRecord } from './ports/lease-store.ts';

const ROUNDS = 3_000;
const ENDPOINT = '/v1/chat/completions';
const TUNED = { name: 'ft:m:mine', adapter: 'a'.repeat(64) };
const RATES = ['0', '20', '50', '90', '400', '2500'];

/** A request as it is written: a batch, and the model that its rows name. */
interface Written {
  readonly model: string;
  readonly completion_window: string;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Market {
  readonly offers: readonly Offer[];
  readonly candidates: readonly Candidate[];
  readonly catalogue: Catalogue;
  readonly worst: Usage;
}

function randomOffer(rng: Chance, no: number): Offer {
  const model = rng.pick(['T4', 'A10', 'A100, 80 GB', 'x'.repeat(64)]);
  const gpu = { model, vramMib: rng.pick([0, 16_384, 24_576]), milli: rng.pick([500, 900, 1_000]) };
  const engine = {
    ...{ name: rng.pick(['m', 'm', 'm', 'm', 'other']), digest: 'd', kind: 'chat', contextTokens: 64 },
    ...{
      loaded: rng.pick([true, true, false]),
      rowsPerSecond: rng.pick([0.000_001, 1 / (1 + rng.below(9_000)), 10, 10]),
    },
    rates: { inputToken: rng.pick(RATES), outputToken: rng.pick(RATES) },
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

function randomMarket(rng: Chance): Market {
  const offers = Array.from({ length: 1 + rng.below(5) }, (_, no) => randomOffer(rng, no));
  const listed = { name: 'm', kind: 'chat', contextTokens: 64, ceilings: { inputToken: '100', outputToken: '90' } };
  const catalogue = { v: 1, models: rng.pick([[], [], [listed]]) } as unknown as Catalogue; // likewise
  const candidates = offers.map((offer) => ({
    ...candidateOf({ id: offer.node, offer, draining: rng.below(9) === 0 }, randomRecord(rng, offer.node)),
    // Finer than anybody asks for it.
    ...rng.pick([{}, { reputation: rng.unit() }]),
  }));
  const worst = { inputToken: BigInt(1 + rng.below(9_000_000)), outputToken: BigInt(1 + rng.below(9_000_000)) };
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

/** As a batch is taken: parsed, priced, and looked at where it stands. Null where its money does not do. */
function explained(request: Written, market: Market, isIdle: boolean): { why: Explanation; rateCaps: Rates } | null {
  const { completion_window: completionWindow, metadata } = request;
  const body = { input_file_id: 'file-1', endpoint: ENDPOINT, completion_window: completionWindow, metadata };
  const parsed = parseBatchRequest(body, 0);
  if (!parsed.ok) throw new Error(`${JSON.stringify(request)}: ${parsed.problem.message}`);
  const { terms, deadlineInMs } = parsed.value;
  const model = knownModel('m', market.catalogue, market.offers);
  if (model === null) return null;
  const priced = pricedAs(model, market.worst, terms.maxCost);
  const cap = capFor(market.worst, terms.maxCost, atOnce(priced.posted(terms.region, terms.needs)), model.ceiling);
  if (!cap.ok) return null;
  const tuned = request.model === 'm' ? null : TUNED;
  const job = { id: 'j', kind: 'batch', endpoint: ENDPOINT, region: terms.region, verify: 'spot', metadata } as const;
  const ask = askOfJob({ ...job, poolId: null, tuned, rateCaps: cap.rateCaps }, 'm', deadlineInMs);
  const nodes = isIdle ? market.candidates.map(idleNode) : market.candidates;
  const windowMs = windowOf({ ...job, completionWindow });
  const bounds = { members: terms.gang ?? 1, windowMs, maxCostFor: maxCostFor(priced) };
  return { why: explainPlacement(ask, nodes, bounds), rateCaps: cap.rateCaps };
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

describe('what an explanation proposes', () => {
  it(`is taken word by word, and places the work, for every wish a request may have, in ${ROUNDS} random markets`, () => {
    const rng = chance(23);
    const followedBy = new Map<string, number>();
    for (let round = 0; round < ROUNDS; round += 1) {
      const market = randomMarket(rng);
      const request = randomRequest(rng);
      const first = explained(request, market, false);
      for (const { set, changes, constraints, inYourHands } of first?.why.relaxations ?? []) {
        expect(read(changes)).toEqual(set);
        const then = followed(request, set);
        const waits = constraints.length > 0 && !inYourHands;
        const now = explained(then, market, waits)?.why;
        const is = now !== undefined && now.fitting >= (now.members ?? 1);
        expect([round, is ? 'placed' : JSON.stringify({ request, then, constraints, now })]).toEqual([round, 'placed']);
        for (const name of constraints) followedBy.set(name, (followedBy.get(name) ?? 0) + 1);
      }
    }
    const asked = CONSTRAINTS.filter(({ lifted }) => lifted === 'by-asking-less').map(({ name }) => name);
    expect(Object.keys(WISHES)).toEqual(asked);
    for (const name of [...asked, 'nodes']) expect([name, (followedBy.get(name) ?? 0) > 50]).toEqual([name, true]);
  });
});
