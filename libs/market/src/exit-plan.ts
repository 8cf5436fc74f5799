import type { Amount } from '@freehold/domain';
import type { KeptVoucher } from '@freehold/protocol';

/** Where a book stands, as anyone reads it from the chain. Times are seconds of the chain's clock. */
export interface BookFacts {
  readonly stage: 'waiting' | 'posted' | 'struck' | 'amended' | 'dead';
  readonly next: bigint;
  readonly startsAt: bigint;
  readonly epochSeconds: bigint;
  readonly windowSeconds: bigint;
  readonly graceSeconds: bigint;
  /** When the book took its last step; of a dead book, when it died. */
  readonly since: bigint;
  readonly postedAt: bigint;
  readonly hasSuccessor: boolean;
  /** From a book's death: until the first voucher is cashed, and until its orders are refunded. */
  readonly noticeSeconds: bigint;
  readonly claimsSeconds: bigint;
  /** The chain's clock when all this was read. */
  readonly now: bigint;
}

export type ExitStep =
  /** Registers a payee that the delegate never did, by its voucher. */
  | { readonly do: 'enrol'; readonly epoch: bigint; readonly claim: KeptVoucher }
  | { readonly do: 'contest'; readonly epoch: bigint; readonly claim: KeptVoucher; readonly posted: Amount }
  | { readonly do: 'finalise'; readonly epoch: bigint }
  | { readonly do: 'declare-missed'; readonly epoch: bigint }
  | { readonly do: 'cash'; readonly epoch: bigint; readonly claims: readonly KeptVoucher[]; readonly amount: Amount }
  | { readonly do: 'withdraw'; readonly amount: Amount }
  | { readonly do: 'close'; readonly order: number }
  | { readonly do: 'refund'; readonly order: number; readonly amount: Amount };

export interface ExitWait {
  readonly why: string;
  /** Second of the chain's clock. */
  readonly until: bigint;
}

export interface ExitPlan {
  /** What still is to come, the steps of now included. */
  readonly owed: Amount;
  /** What can be done now, in this order. */
  readonly steps: readonly ExitStep[];
  /** What has to happen or pass before there is more to do. */
  readonly waits: readonly ExitWait[];
  /** What no road of the contract leads to any more, and who may still help. */
  readonly lost: readonly { readonly amount: Amount; readonly why: string }[];
}

/** What a payee can claim and has, beside the book. */
export interface PayeeFacts {
  readonly isRegistered: boolean;
  readonly balance: Amount;
  /** Credit in the posting that waits for its window; null when none does. */
  readonly posted: Amount | null;
  /** Credits of this payee in final epochs, as far as vouchers of them are at hand. */
  readonly final: ReadonlyMap<bigint, Amount>;
  /** What is left in the reserved lanes of the orders. */
  readonly lanes: ReadonlyMap<string, Amount>;
  /** `<epoch>/<order>` of vouchers that were cashed. */
  readonly cashed: ReadonlySet<string>;
}

/** Vouchers of one transaction: 50 cost least gas each. */
const CASHED_AT_ONCE = 50;

/**
 * What a payee does to be paid, from its vouchers and the chain alone: the roads of the escrow, in the order in which they
 * open. Pure, so that a plan is the same for everybody who reads the same block.
 */
export function planCashout(book: BookFacts, payee: PayeeFacts, vouchers: readonly KeptVoucher[]): ExitPlan {
  const best = bestOf(vouchers);
  const plan = new Draft();
  for (const [epoch, { top }] of best) {
    if (epoch < book.next) plan.lose(shortOfFinal(epoch, top, payee));
  }
  const open = [...best].filter(([epoch]) => epoch >= book.next);
  const [first] = open;
  if (first !== undefined) {
    if (book.stage === 'dead') planDead(plan, book, payee, open);
    else planLiving(plan, book, payee, first[1].top, open);
  }
  const cashed = plan.steps.reduce((sum, step) => (step.do === 'cash' ? sum + step.amount : sum), 0n);
  const amount = payee.balance + cashed;
  if (amount > 0n) plan.do({ do: 'withdraw', amount });
  plan.owed += payee.balance;
  return plan;
}

/** What the owner of an order does to have the rest of it back. */
export function planRefund(
  book: BookFacts,
  order: {
    readonly index: number;
    readonly rest: Amount;
    /** Null while it is open. */
    readonly closeEpoch: bigint | null;
    readonly isPayer: boolean;
  },
): ExitPlan {
  const plan = new Draft();
  const { index, rest, closeEpoch } = order;
  plan.owed = rest;
  if (rest === 0n) return plan;
  const refund: ExitStep = { do: 'refund', order: index, amount: rest };
  if (closeEpoch !== null && book.next > closeEpoch) plan.do(refund);
  else if (book.stage === 'dead') {
    const opensAt = book.since + book.claimsSeconds;
    if (book.now >= opensAt) plan.do(refund);
    else plan.wait('the book is dead: payees cash their vouchers first, then its orders are refunded', opensAt);
  } else {
    if (closeEpoch === null && order.isPayer) plan.do({ do: 'close', order: index });
    else if (closeEpoch === null)
      plan.wait('the order is open; its payer closes it first (give the payer’s key)', book.now);
    moveBook(plan, book);
  }
  return plan;
}

class Draft implements ExitPlan {
  owed: Amount = 0n;
  readonly steps: ExitStep[] = [];
  readonly waits: ExitWait[] = [];
  readonly lost: { readonly amount: Amount; readonly why: string }[] = [];

  do(step: ExitStep): void {
    this.steps.push(step);
  }

  wait(why: string, until: bigint): void {
    this.waits.push({ why, until });
  }

  lose(loss: { readonly amount: Amount; readonly why: string } | null): void {
    if (loss !== null) this.lost.push(loss);
  }
}

interface BestVouchers {
  /** The one with the highest total: what an epoch's posting must credit. */
  readonly top: KeptVoucher;
  /** The highest cumulative of each order: what a dead book pays. */
  readonly byOrder: ReadonlyMap<string, KeptVoucher>;
}

/** By epoch, earliest first. */
function bestOf(vouchers: readonly KeptVoucher[]): ReadonlyMap<bigint, BestVouchers> {
  const epochs = new Map<bigint, { top: KeptVoucher; byOrder: Map<string, KeptVoucher> }>();
  for (const voucher of vouchers) {
    const epoch = BigInt(voucher.epoch);
    const known = epochs.get(epoch) ?? { top: voucher, byOrder: new Map<string, KeptVoucher>() };
    if (BigInt(voucher.total) > BigInt(known.top.total)) known.top = voucher;
    const before = known.byOrder.get(voucher.order);
    if (before === undefined || BigInt(voucher.cumulative) > BigInt(before.cumulative))
      known.byOrder.set(voucher.order, voucher);
    epochs.set(epoch, known);
  }
  return new Map([...epochs].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function shortOfFinal(epoch: bigint, top: KeptVoucher, payee: PayeeFacts): { amount: Amount; why: string } | null {
  const credited = payee.final.get(epoch);
  if (credited === undefined || credited >= BigInt(top.total)) return null;
  return {
    amount: BigInt(top.total) - credited,
    why: `epoch ${epoch} became final with ${credited} of ${top.total} credited, and nobody contested it in time: show the voucher to the book's referees`,
  };
}

/** A living book pays by postings: contest one that says too little, else let it pass its window. */
function planLiving(
  plan: Draft,
  book: BookFacts,
  payee: PayeeFacts,
  top: KeptVoucher,
  open: readonly (readonly [bigint, BestVouchers])[],
): void {
  for (const [, { top: owed }] of open) plan.owed += BigInt(owed.total);
  const isPosted = book.stage === 'posted' || book.stage === 'amended';
  const epoch = BigInt(top.epoch);
  if (isPosted && epoch === book.next && payee.posted !== null && payee.posted < BigInt(top.total)) {
    if (!payee.isRegistered) plan.do({ do: 'enrol', epoch, claim: top });
    plan.do({ do: 'contest', epoch, claim: top, posted: payee.posted });
    return;
  }
  moveBook(plan, book);
}

/** Whatever moves a living book on when its delegate does not: anyone may finalise, and anyone may say that it is late. */
function moveBook(plan: Draft, book: BookFacts): void {
  const { next: epoch, now } = book;
  if (book.stage === 'posted' || book.stage === 'amended') {
    const closesAt = book.postedAt + book.windowSeconds;
    if (now >= closesAt) plan.do({ do: 'finalise', epoch });
    else plan.wait(`the posting of epoch ${epoch} waits for its window`, closesAt);
    return;
  }
  const end = book.startsAt + (epoch + 1n) * book.epochSeconds;
  const postBy = (end > book.since ? end : book.since) + book.graceSeconds;
  const deadline = postBy + (book.hasSuccessor ? book.graceSeconds : 0n);
  if (now > deadline) plan.do({ do: 'declare-missed', epoch });
  else if (now < end) plan.wait(`epoch ${epoch} still runs; its coordinator posts it afterwards`, end);
  else
    plan.wait(
      `epoch ${epoch} has to be posted by its coordinator${book.hasSuccessor ? ' or its successor' : ''}; after that anyone may declare the book dead, and vouchers are cashed one by one`,
      deadline + 1n,
    );
}

/** A dead book pays vouchers from the lanes, each order's once per epoch; what a lane lacks is for the referees. */
function planDead(
  plan: Draft,
  book: BookFacts,
  payee: PayeeFacts,
  open: readonly (readonly [bigint, BestVouchers])[],
): void {
  const last = book.since <= book.startsAt ? 0n : (book.since - book.startsAt) / book.epochSeconds;
  const lanes = new Map(payee.lanes);
  const opensAt = book.since + book.noticeSeconds;
  const cashing: ExitStep[] = [];
  for (const [epoch, { byOrder }] of open) {
    const wanted = [...byOrder.values()].filter(({ order }) => !payee.cashed.has(`${epoch}/${order}`));
    if (epoch > last) {
      const amount = wanted.reduce((sum, { cumulative }) => sum + BigInt(cumulative), 0n);
      if (amount > 0n) plan.lose({ amount, why: `epoch ${epoch} had not begun when the book died (last: ${last})` });
      continue;
    }
    cashing.push(...cashSteps(plan, epoch, wanted, lanes));
  }
  plan.owed += cashing.reduce((sum, step) => (step.do === 'cash' ? sum + step.amount : sum), 0n);
  if (cashing.length === 0) return;
  if (book.now < opensAt)
    return plan.wait('the book is dead; vouchers are cashed from here on, after a notice to all payees', opensAt);
  const [first] = cashing;
  if (!payee.isRegistered && first?.do === 'cash' && first.claims[0] !== undefined)
    plan.do({ do: 'enrol', epoch: first.epoch, claim: first.claims[0] });
  for (const step of cashing) plan.do(step);
}

function cashSteps(plan: Draft, epoch: bigint, wanted: readonly KeptVoucher[], lanes: Map<string, Amount>): ExitStep[] {
  const covered: KeptVoucher[] = [];
  for (const voucher of [...wanted].sort((a, b) => Number(a.order) - Number(b.order))) {
    const lane = lanes.get(voucher.order) ?? 0n;
    const amount = BigInt(voucher.cumulative);
    if (amount === 0n) continue;
    if (lane < amount) {
      const why = `order ${voucher.order} holds ${lane} of the ${amount} of epoch ${epoch}: a voucher is not used up for less; show it to the book's referees`;
      plan.lose({ amount, why });
      continue;
    }
    lanes.set(voucher.order, lane - amount);
    covered.push(voucher);
  }
  const steps: ExitStep[] = [];
  for (let from = 0; from < covered.length; from += CASHED_AT_ONCE) {
    const claims = covered.slice(from, from + CASHED_AT_ONCE);
    const amount = claims.reduce((sum, { cumulative }) => sum + BigInt(cumulative), 0n);
    steps.push({ do: 'cash', epoch, claims, amount });
  }
  return steps;
}
