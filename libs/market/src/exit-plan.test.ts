import { describe, expect, it } from '@jest/globals';
import type { KeptVoucher } from '@freehold/protocol';
import { planCashout, planRefund, type BookFacts, type ExitPlan, type PayeeFacts } from './exit-plan.ts';

const DAY = 86_400n;
const BOOK: BookFacts = {
  stage: 'waiting',
  next: 3n,
  startsAt: 0n,
  epochSeconds: 100n,
  windowSeconds: 30n,
  graceSeconds: 50n,
  since: 300n,
  postedAt: 0n,
  hasSuccessor: false,
  noticeSeconds: DAY,
  claimsSeconds: 30n * DAY,
  now: 350n,
};
const PAYEE: PayeeFacts = {
  isRegistered: true,
  balance: 0n,
  posted: null,
  final: new Map(),
  lanes: new Map([
    ['0', 1_000n],
    ['1', 1_000n],
  ]),
  cashed: new Set(),
};

function voucher(epoch: number, order: number, cumulative: number, total: number): KeptVoucher {
  return {
    book: `0x${'b0'.repeat(32)}`,
    epoch: String(epoch),
    payee: `0x${'aa'.repeat(20)}`,
    order: String(order),
    orderParams: `0x${'00'.repeat(8)}`,
    cumulative: String(cumulative),
    total: String(total),
    receipt: `0x${'cc'.repeat(32)}`,
    signature: `0x${'11'.repeat(65)}`,
  };
}
const doing = (plan: ExitPlan): string[] => plan.steps.map((step) => step.do);
const VOUCHERS = [voucher(3, 0, 10, 10), voucher(3, 1, 5, 15), voucher(3, 0, 30, 35), voucher(4, 0, 7, 7)];

describe('a payee’s way out of a living book', () => {
  it('waits for the end of the epoch, then for the coordinator’s deadline, and then declares the book dead', () => {
    const runs = planCashout(BOOK, PAYEE, VOUCHERS);
    expect(runs).toMatchObject({ owed: 42n, steps: [], waits: [{ until: 400n }] });
    expect(planCashout({ ...BOOK, now: 420n }, PAYEE, VOUCHERS).waits[0]?.until).toBe(451n);
    expect(planCashout({ ...BOOK, now: 450n }, PAYEE, VOUCHERS).steps).toEqual([]);
    expect(doing(planCashout({ ...BOOK, now: 451n }, PAYEE, VOUCHERS))).toEqual(['declare-missed']);
  });

  it('gives a successor its grace before it says that nobody posted', () => {
    const late = { ...BOOK, hasSuccessor: true, now: 451n };
    expect(planCashout(late, PAYEE, VOUCHERS)).toMatchObject({ steps: [], waits: [{ until: 501n }] });
    expect(doing(planCashout({ ...late, now: 501n }, PAYEE, VOUCHERS))).toEqual(['declare-missed']);
  });

  it('contests a posting that says less than its highest voucher, and registers itself for that if nobody did', () => {
    const posted = { ...BOOK, stage: 'posted', postedAt: 410n, now: 420n } as const;
    const short = planCashout(posted, { ...PAYEE, posted: 34n }, VOUCHERS);
    expect(short.steps).toMatchObject([{ do: 'contest', posted: 34n, claim: { total: '35' } }]);
    const stranger = planCashout(posted, { ...PAYEE, isRegistered: false, posted: 0n }, VOUCHERS);
    expect(doing(stranger)).toEqual(['enrol', 'contest']);
    const right = planCashout(posted, { ...PAYEE, posted: 35n }, VOUCHERS);
    expect(right).toMatchObject({ steps: [], waits: [{ until: 440n }] });
  });

  it('finalises what has passed its window, contests first even then, and withdraws what is credited', () => {
    const posted = { ...BOOK, stage: 'amended', postedAt: 410n, now: 440n } as const;
    expect(doing(planCashout(posted, { ...PAYEE, posted: 35n }, VOUCHERS))).toEqual(['finalise']);
    expect(doing(planCashout(posted, { ...PAYEE, posted: 34n }, VOUCHERS))).toEqual(['contest']);
    const final = planCashout({ ...BOOK, next: 5n }, { ...PAYEE, balance: 42n, final: new Map([[3n, 35n]]) }, VOUCHERS);
    expect(final).toMatchObject({ owed: 42n, steps: [{ do: 'withdraw', amount: 42n }], waits: [], lost: [] });
  });

  it('says what was lost for good, and to whom the voucher can still be shown', () => {
    const plan = planCashout(
      { ...BOOK, next: 5n },
      {
        ...PAYEE,
        final: new Map([
          [3n, 30n],
          [4n, 7n],
        ]),
      },
      VOUCHERS,
    );
    expect(plan).toMatchObject({
      owed: 0n,
      steps: [],
      lost: [{ amount: 5n, why: expect.stringContaining('referees') }],
    });
  });

  it('has nothing to do and nothing to wait for when everything is paid', () => {
    expect(planCashout({ ...BOOK, next: 5n }, PAYEE, VOUCHERS)).toMatchObject({
      owed: 0n,
      steps: [],
      waits: [],
      lost: [],
    });
  });
});

describe('a payee’s way out of a dead book', () => {
  const dead = { ...BOOK, stage: 'dead', since: 460n, now: 460n + DAY } as const;

  it('waits out the notice, then cashes the highest voucher of each order and epoch, and withdraws', () => {
    expect(planCashout({ ...dead, now: 461n }, PAYEE, VOUCHERS)).toMatchObject({
      owed: 42n,
      steps: [],
      waits: [{ until: 460n + DAY }],
    });
    const plan = planCashout(dead, { ...PAYEE, isRegistered: false }, VOUCHERS);
    expect(doing(plan)).toEqual(['enrol', 'cash', 'cash', 'withdraw']);
    expect(plan.steps[1]).toMatchObject({
      epoch: 3n,
      amount: 35n,
      claims: [{ cumulative: '30' }, { cumulative: '5' }],
    });
    expect(plan.steps.at(-1)).toMatchObject({ amount: 42n });
  });

  it('goes on where it was cut: what is cashed is not cashed again', () => {
    const half = { ...PAYEE, balance: 35n, cashed: new Set(['3/0', '3/1']) };
    const plan = planCashout(dead, half, VOUCHERS);
    expect(plan.steps).toMatchObject([
      { do: 'cash', epoch: 4n, amount: 7n },
      { do: 'withdraw', amount: 42n },
    ]);
    expect(plan.owed).toBe(42n);
  });

  it('does not use a voucher up for less than it says, and leaves alone what began after the death', () => {
    const plan = planCashout(
      dead,
      {
        ...PAYEE,
        lanes: new Map([
          ['0', 35n],
          ['1', 5n],
        ]),
      },
      [...VOUCHERS, voucher(5, 1, 9, 9)],
    );
    expect(plan.owed).toBe(35n);
    expect(plan.lost.map(({ amount }) => amount)).toEqual([7n, 9n]);
    expect(plan.lost[0]?.why).toContain('referees');
  });
});

describe('a requester’s way out', () => {
  const order = { index: 4, rest: 500n, closeEpoch: null, isPayer: true };

  it('closes, waits for settled epochs, and refunds', () => {
    const open = planRefund(BOOK, order);
    expect(open).toMatchObject({ owed: 500n, steps: [{ do: 'close', order: 4 }], waits: [{ until: 400n }] });
    const closing = { ...order, closeEpoch: 4n };
    expect(planRefund({ ...BOOK, next: 4n, now: 450n }, closing).steps).toEqual([]);
    expect(planRefund({ ...BOOK, next: 5n }, closing).steps).toEqual([{ do: 'refund', order: 4, amount: 500n }]);
  });

  it('moves a book on that its coordinator left, and is refunded after the payees had their time', () => {
    const closing = { ...order, closeEpoch: 4n };
    expect(doing(planRefund({ ...BOOK, now: 451n }, closing))).toEqual(['declare-missed']);
    const dead = { ...BOOK, stage: 'dead', since: 460n, now: 500n } as const;
    expect(planRefund(dead, order)).toMatchObject({ steps: [], waits: [{ until: 460n + 30n * DAY }] });
    expect(doing(planRefund({ ...dead, now: 460n + 30n * DAY }, order))).toEqual(['refund']);
  });

  it('asks for the payer’s key when somebody else wants to close it, and has nothing to do for an empty order', () => {
    expect(planRefund(BOOK, { ...order, isPayer: false }).waits[0]?.why).toContain('payer');
    expect(planRefund(BOOK, { ...order, rest: 0n })).toMatchObject({ owed: 0n, steps: [], waits: [] });
  });
});
