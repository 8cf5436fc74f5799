import { createHash } from 'node:crypto';
import { ChainSender, type SendState, type SendWish } from '@freehold/market';
import type { BookCall, TextLane } from '../chain/book-rules.ts';
import type { Request } from '../sim-requester.ts';
import type { Scenario, SimWorld } from '../sim-world.ts';
import type { Attack, Seat } from './attack.ts';
import { calmMarket, SEAT } from './market-of.ts';
import { watchChain } from './payees-watch.ts';
import { operatorPurse } from './purse.ts';

/** Everybody watches the chain, as nodes and requesters do that do not trust their operator. */
const OPERATOR: Seat = {
  name: 'the operator',
  market: (seed) => ({ ...calmMarket(seed), plays: watchChain }),
  purse: operatorPurse,
};

/** More work than nodes do for an operator that signs nothing. */
const LONG_ROWS = 400;
const LONG_DEPOSIT = 400_000n;
export const LONG_OPERATOR: Seat = {
  name: 'the operator of a long market',
  market: (seed) => {
    const market = OPERATOR.market(seed);
    const long = (request: Request): Request => ({ ...request, rows: LONG_ROWS });
    const requesters = market.requesters.map((plan) => ({
      ...plan,
      deposit: LONG_DEPOSIT,
      requests: plan.requests.map(long),
    }));
    return { ...market, requesters };
  },
  purse: operatorPurse,
};

/** The operator's process sends other calls than its software meant. */
class BentSender extends ChainSender {
  override readonly address: string;
  readonly #sender: ChainSender;
  readonly #bend: (call: BookCall) => BookCall | null;

  constructor(sender: ChainSender, bend: (call: BookCall) => BookCall | null) {
    super();
    this.address = sender.address;
    this.#sender = sender;
    this.#bend = bend;
  }

  override async submit(wish: SendWish): Promise<SendState> {
    const bent = this.#bend(JSON.parse(wish.call.data) as BookCall);
    if (bent === null) return { state: 'refused', why: 'the operator does not want to' };
    return this.#sender.submit({ ...wish, call: { ...wish.call, data: JSON.stringify(bent) } });
  }
  override tick(): ReturnType<ChainSender['tick']> {
    return this.#sender.tick();
  }
}

const bent =
  (bend: (call: BookCall, world: () => SimWorld) => BookCall | null, plays: (world: SimWorld) => void = watchChain) =>
  (market: Scenario): Scenario => {
    let world: SimWorld | null = null;
    const here = (): SimWorld => {
      if (world === null) throw new Error('the run has not begun');
      return world;
    };
    return {
      ...market,
      sends: (sender) => new BentSender(sender, (call) => bend(call, here)),
      plays: (run) => {
        world = run;
        plays(run);
      },
    };
  };

const operating = (
  name: string,
  change: Attack['change'],
  isCaught: Attack['isCaught'],
  exception?: string,
): Attack => ({
  ...{ role: 'operator', name, seat: OPERATOR, change, isCaught },
  ...(exception === undefined ? {} : { exception }),
});

function isDead({ chain }: SimWorld): boolean {
  return chain.head.state.stage === 'dead';
}

const MUTE = 'Only what is countersigned is owed on chain: each node loses its limit of unsigned work once.';

export function mute(market: Scenario): Scenario {
  return { ...bent(postsNothing)(market), isMute: true };
}

export const OPERATORS: readonly Attack[] = [
  operating('posts less than its vouchers say', bent(postsNothing), isDead),
  operating(
    'never posts anything',
    bent((call) => (call.do === 'post' ? null : call)),
    isDead,
  ),
  operating(
    'bills the orders of others for work that nobody did',
    bent(billsAll, (world) => {
      watchChain(world);
      world.time.after(4_000, () => enrolAccomplice(world));
    }),
    isDead,
    'A requester trusts the operator with the reserved lane of its order, and the chain cannot see work.',
  ),
  operating('takes the work and signs nothing', mute, isDead, MUTE),
  { ...operating('takes the work of a long market and signs nothing', mute, isDead, MUTE), seat: LONG_OPERATOR },
];

/** An epoch in which nobody earned anything. */
function postsNothing(call: BookCall): BookCall {
  return call.do === 'post' ? { ...call, debits: [], credits: [] } : call;
}

function accompliceOf(world: SimWorld): string {
  const known = world.payoutOf.get(SEAT) ?? `0x${'ac'.repeat(20)}`;
  world.payoutOf.set(SEAT, known);
  return known;
}

function enrolAccomplice(world: SimWorld): void {
  const call: BookCall = { do: 'add-payee', payee: accompliceOf(world) };
  const hash = `0x${createHash('sha256').update('accomplice').digest('hex')}`;
  world.chain.send({ hash, from: world.terms.delegate, nonce: null, call });
}

/** Every lane to its end, and what honest nodes do not get to the accomplice. */
function billsAll(call: BookCall, world: () => SimWorld): BookCall | null {
  if (call.do !== 'post') return call;
  const { orders, payees } = world().chain.head.state;
  const index = payees.indexOf(accompliceOf(world()));
  if (index < 0) return call;
  const lanes = [...orders].filter(([, { reserved }]) => reserved > 0n);
  const debits = lanes.map(([order, { reserved }]): TextLane => [order, String(reserved)]);
  const total = lanes.reduce((sum, [, { reserved }]) => sum + reserved, 0n);
  const honest = call.credits.reduce((sum, [, amount]) => sum + BigInt(amount), 0n);
  return { ...call, debits, credits: [...call.credits, [index, String(total - honest)]] };
}
