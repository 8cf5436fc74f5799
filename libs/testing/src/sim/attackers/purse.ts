import { OPERATOR_DEPOSIT, BOND, type SimWorld } from '../sim-world.ts';
import { COST_SHARE, RATE_PER_MILLION, SEAT, WORTH_SHARE } from './market-of.ts';
import { rightUnits } from '../books.ts';
import { isOver } from '../memory/endings.ts';

/** What came in and what it took, in the token's smallest unit. */
export interface Purse {
  readonly income: number;
  readonly cost: number;
}

const PRICE = RATE_PER_MILLION / 1_000_000;

function outOf(world: SimWorld, address: string): number {
  return Number(world.chain.head.state.paidOut.get(address) ?? 0n);
}

/** What left the escrow for the seat's payout addresses, and the power its machines used. */
export function seatedPurse(world: SimWorld): Purse {
  const seats = [...world.payoutOf].filter(([operator]) => operator.startsWith(SEAT));
  const income = seats.reduce((sum, [, payout]) => sum + outOf(world, payout), 0);
  const units = seatedNodes(world).reduce((sum, { unitsRun }) => sum + unitsRun, 0);
  return { income, cost: Math.round(units * PRICE * COST_SHARE) };
}

export function seatedNodes(world: SimWorld): SimWorld['nodes'] {
  const payouts = new Set([...world.payoutOf].filter(([operator]) => operator.startsWith(SEAT)).map(([, to]) => to));
  return world.nodes.filter(({ offer }) => payouts.has(offer.offer.payout));
}

/** The first requester: what its right rows are worth to it, and what its wallet is short of in the end. */
export async function requesterPurse(world: SimWorld): Promise<Purse> {
  const [own] = world.requesters;
  if (own === undefined) return { income: 0, cost: 0 };
  const spent = Number(own.deposit) - outOf(world, own.wallet);
  let units = 0;
  for (const job of world.db.jobs.where((job) => job.orgId === own.orgId && isOver(job))) {
    for (const row of world.db.rows.where(({ jobId, state }) => jobId === job.id && state === 'succeeded'))
      units += (await rightUnits(world, row)) ?? 0;
  }
  return { income: Math.round(units * PRICE * WORTH_SHARE), cost: spent };
}

/** Fees, what prepaying customers were charged, and what an accomplice got; less what left the operator's own lane and bond. */
export function operatorPurse(world: SimWorld): Purse {
  const { db } = world;
  const prepaid = db.jobs.where(({ trust }) => trust === 'operator-credits');
  const charged = prepaid.reduce((sum, job) => sum + Number(job.charged), 0);
  const accomplice = world.payoutOf.get(SEAT);
  const income = outOf(world, 'operator') + charged + (accomplice === undefined ? 0 : outOf(world, accomplice));
  const orders = [...world.chain.head.state.orders.values()].filter(({ payer }) => payer === world.operatorPayer);
  // A market that stops in the middle leaves the lane where it is: it is still the operator's.
  const left = orders.reduce((sum, { reserved, free }) => sum + Number(reserved + free), 0);
  const lane = Number(OPERATOR_DEPOSIT) - left - outOf(world, world.operatorPayer);
  return { income, cost: lane + Number(BOND - world.chain.head.state.bond) };
}
