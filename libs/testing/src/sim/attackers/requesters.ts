import { createHash } from 'node:crypto';
import type { Request } from '../sim-requester.ts';
import type { RequesterPlan, Scenario, SimWorld } from '../sim-world.ts';
import type { Attack, Seat } from './attack.ts';
import { calmMarket } from './market-of.ts';
import { requesterPurse } from './purse.ts';

const REQUESTER: Seat = { name: 'a requester', market: (seed) => calmMarket(seed), purse: requesterPurse };
/** Holds one of its batches at a time: a hold is the worst case, some four times what the rows cost. */
const TIGHT = 25_000n;
const TIGHT_REQUESTER: Seat = {
  name: 'a requester with a small deposit',
  market: (seed) => firstIs((plan) => ({ ...plan, deposit: TIGHT }))(calmMarket(seed)),
  purse: requesterPurse,
};

/** Work that lasts beyond the epoch in which an order closes. */
const LONG = { rows: 200, deposit: 200_000n };
const LONG_REQUESTER: Seat = {
  name: 'a requester with long batches',
  market: (seed) => longest(calmMarket(seed)),
  purse: requesterPurse,
};

const MIDWAY_MS = 12_000;

function firstIs(change: (plan: RequesterPlan) => RequesterPlan): (market: Scenario) => Scenario {
  return (market) => ({ ...market, requesters: market.requesters.map((plan, i) => (i === 0 ? change(plan) : plan)) });
}

function asking(change: Partial<Request>): (market: Scenario) => Scenario {
  return firstIs((plan) => ({ ...plan, requests: plan.requests.map((request) => ({ ...request, ...change })) }));
}

function longest(market: Scenario): Scenario {
  const { rows, deposit } = LONG;
  return firstIs((plan) => ({ ...plan, deposit }))(asking({ rows })(market));
}

function isRefused(world: SimWorld): boolean {
  return (world.requesters[0]?.refused.length ?? 0) > 0;
}

/** A batch of it was ended, or never begun, because no order pays for it. */
function isCutShort(world: SimWorld): boolean {
  return world.db.jobs.where(({ orgId, faults }) => orgId === 'org_0' && faults !== null).length > 0;
}

const requesting = (
  name: string,
  change: Attack['change'],
  isCaught: Attack['isCaught'] = isNever,
  seat: Seat = REQUESTER,
): Attack => ({ role: 'requester', name, seat, change, isCaught });

export const REQUESTERS: readonly Attack[] = [
  requesting('cancels in the middle', asking({ cancelAfterMs: MIDWAY_MS }), isNever, LONG_REQUESTER),
  requesting('closes its order as soon as work has begun', playing(closesEarly), isCutShort, LONG_REQUESTER),
  requesting('closes its order before it asks for anything', playing(closesFirst), isCutShort, LONG_REQUESTER),
  requesting('gives a cap that the work cannot keep', asking({ maxCost: '0.000001' }), isRefused),
  requesting('asks five times for what its deposit covers once', asksOften, isRefused, TIGHT_REQUESTER),
  requesting('sends each request five times', asking({ tries: 5 })),
  requesting('has every row checked by two operators', asking({ verify: 'quorum' })),
];

function isNever(): boolean {
  return false;
}

function playing(plays: (world: SimWorld) => void): (market: Scenario) => Scenario {
  return (market) => ({ ...market, plays });
}

function asksOften(market: Scenario): Scenario {
  return firstIs((plan) => ({
    ...plan,
    requests: plan.requests.flatMap((request) =>
      Array.from({ length: 5 }, (_, i) => ({ ...request, name: `${request.name} again ${i}` })),
    ),
  }))(market);
}

/** The order of the seat, closed with its wallet's own call. */
function close(world: SimWorld): void {
  const wallet = world.requesters[0]?.wallet;
  for (const [order, { payer }] of world.chain.head.state.orders) {
    if (payer !== wallet) continue;
    const hash = `0x${createHash('sha256').update(`close early ${payer}`).digest('hex')}`;
    world.chain.send({ hash, from: payer, nonce: null, call: { do: 'close-order', order } });
  }
}

function closesEarly(world: SimWorld): void {
  const look = (): void => {
    const jobs = world.db.jobs.where(({ orgId, state }) => orgId === 'org_0' && state === 'in_progress');
    if (jobs.length === world.requesters[0]?.requests.length) close(world);
    else world.time.after(100, look);
  };
  world.time.after(100, look);
}

function closesFirst(world: SimWorld): void {
  const look = (): void => {
    if (world.chain.head.state.orders.size < 3) world.time.after(100, look);
    else close(world);
  };
  world.time.after(100, look);
}
