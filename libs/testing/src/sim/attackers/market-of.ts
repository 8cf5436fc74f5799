import { Dice } from '../dice.ts';
import { HONEST, type Conduct } from '../sim-node.ts';
import { CALM } from '../sim-process.ts';
import type { Request } from '../sim-requester.ts';
import type { NodePlan, RequesterPlan, Scenario } from '../sim-world.ts';

/** Ten times the usual price: a fee that is a few units a lease would drown in rounding. */
export const RATE_PER_MILLION = 7_000_000;
/**
 * What a row costs who runs it, of its price, and what it is worth to who asked for it. Both are arguments, not measurements: the
 * order of strategies stays the same as long as a row costs less than it brings and brings less than it is worth.
 */
export const COST_SHARE = 0.5;
export const WORTH_SHARE = 2;

/** Operators of the place under test; all others are honest. */
export const SEAT = 'seat';

const HONEST_BESIDE = 3;
const BATCHES = 2;
const ROWS = 60;
/** Everybody is known for long, so that audits are at their floor; a new name is a newcomer. */
const RECORD_ROWS = 1_000;

/** A market without accidents, so that what differs between two runs is the player alone. */
export function calmMarket(seed: number, seats: readonly Conduct[] = [HONEST], ownEngine = true): Scenario {
  const dice = new Dice(seed).for('calm market');
  const seated = seats.map((conduct, i): NodePlan => ({
    conduct,
    operator: `${SEAT} ${i}`,
    rowsAccepted: RECORD_ROWS,
  }));
  const beside = Array.from({ length: HONEST_BESIDE }, (_, i): NodePlan => ({
    conduct: HONEST,
    operator: `honest ${i}`,
    rowsAccepted: RECORD_ROWS,
  }));
  return {
    nodes: [...seated, ...beside],
    requesters: [requester(true), requester(true), requester(false)],
    weather: CALM,
    network: { latencyMsMax: dice.between(5, 40), lost: 0, repeated: 0 },
    queue: { delayMsMax: dice.between(5, 50), duplicates: 0 },
    chain: { blockMs: 2_000, reorgs: 0, reorgDepthMax: 0, forgotten: 0 },
    nodeCrashes: 0,
    cuts: 0,
    queueWipes: 0,
    zombies: 0,
    calmFromMs: 0,
    ownEngine,
    rates: { embeddingToken: String(RATE_PER_MILLION) },
  };
}

export function requester(isSelfCustody: boolean, change: Partial<Request> = {}): RequesterPlan {
  const request = (_: unknown, i: number): Request => ({
    name: `batch ${i}`,
    rows: ROWS,
    cancelAfterMs: null,
    window: '24h',
    verify: 'spot',
    tries: 1,
    ...change,
  });
  return { isSelfCustody, requests: Array.from({ length: BATCHES }, request) };
}
