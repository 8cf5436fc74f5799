import { epochFee } from '@freehold/domain';
import type { BookNow, ChainFact, Lane } from '@freehold/market';

/** A call to the book, by whom. Amounts are decimal strings, because calls travel as text. */
export type BookCall =
  | {
      readonly do: 'open-order';
      readonly params: string;
      readonly refundTo: string;
      readonly reserved: string;
      readonly free: string;
    }
  | { readonly do: 'top-up'; readonly order: number; readonly reserved: string }
  | { readonly do: 'close-order'; readonly order: number }
  | { readonly do: 'refund'; readonly order: number }
  | { readonly do: 'add-payee'; readonly payee: string }
  | {
      readonly do: 'post';
      readonly epoch: string;
      readonly debits: readonly TextLane[];
      readonly credits: readonly TextLane[];
    }
  | { readonly do: 'finalise'; readonly debits: readonly TextLane[]; readonly credits: readonly TextLane[] }
  | { readonly do: 'contest'; readonly claim: Claim }
  | { readonly do: 'declare-missed' }
  | { readonly do: 'cash'; readonly epoch: string; readonly claims: readonly Claim[] }
  | { readonly do: 'withdraw'; readonly payees: readonly number[] };

export type TextLane = readonly [index: number, amount: string];

/** A delegate voucher as a payee shows it. */
export interface Claim {
  readonly epoch: string;
  readonly payee: string;
  readonly order: number;
  readonly cumulative: string;
  readonly total: string;
  /** Whether the delegate really signed this: the contract would recover it. */
  readonly isSigned: boolean;
}

export interface BookState {
  readonly stage: BookNow['stage'];
  readonly next: bigint;
  readonly since: bigint;
  readonly postedAt: bigint;
  readonly bond: bigint;
  readonly posting: { readonly debits: readonly Lane[]; readonly credits: readonly Lane[] } | null;
  readonly orders: ReadonlyMap<number, BookOrder>;
  readonly payees: readonly string[];
  readonly balances: ReadonlyMap<number, bigint>;
  readonly cashed: ReadonlySet<string>;
  /** What left the escrow, by address. */
  readonly paidOut: ReadonlyMap<string, bigint>;
}

export interface BookOrder {
  readonly payer: string;
  readonly refundTo: string;
  readonly reserved: bigint;
  readonly free: bigint;
  /** Null while open. */
  readonly closeEpoch: bigint | null;
}

export interface BookTerms {
  readonly delegate: string;
  readonly feeTo: string;
  readonly feeBps: number;
  readonly startsAt: bigint;
  readonly epochSeconds: bigint;
  readonly windowSeconds: bigint;
  readonly graceSeconds: bigint;
  readonly noticeSeconds: bigint;
  readonly claimsSeconds: bigint;
  readonly penalty: bigint;
}

export class Revert extends Error {}

type Outcome = { readonly state: BookState; readonly facts: readonly ChainFact[] };

/**
 * The roads of the escrow for one book, as `contracts/src/ComputeEscrow.sol` has them: what may be posted, finalised, contested,
 * cashed, withdrawn and refunded, and when. Its own rules are fuzzed where they are written; here they stand so that a run
 * has a chain that refuses what the real one refuses.
 */
export function applyCall(terms: BookTerms, state: BookState, call: BookCall, by: string, now: bigint): Outcome {
  switch (call.do) {
    case 'open-order':
      return openOrder(state, call, by);
    case 'top-up': {
      const order = orderAt(state, call.order);
      const reserved = BigInt(call.reserved);
      const changed = { ...order, reserved: order.reserved + reserved };
      return {
        state: withOrder(state, call.order, changed),
        facts: [{ name: 'OrderToppedUp', order: call.order, reserved, free: 0n }],
      };
    }
    case 'close-order': {
      const order = orderAt(state, call.order);
      if (order.payer !== by) throw new Revert(`NotAllowed ${by}`);
      if (order.closeEpoch !== null) throw new Revert(`OrderClosed ${call.order}`);
      const closeEpoch = epochAt(terms, now) + 1n;
      return {
        state: withOrder(state, call.order, { ...order, closeEpoch }),
        facts: [{ name: 'OrderClosing', order: call.order, closeEpoch }],
      };
    }
    case 'refund':
      return refund(terms, state, call.order, now);
    case 'add-payee':
      if (by !== terms.delegate) throw new Revert(`NotAllowed ${by}`);
      return addPayee(state, call.payee);
    case 'post':
      return post(terms, state, call, by, now);
    case 'finalise':
      return finalise(terms, state, call, now);
    case 'contest':
      return contest(terms, state, call.claim, now);
    case 'declare-missed': {
      const end = endOf(terms, state.next);
      const postBy = (end > state.since ? end : state.since) + terms.graceSeconds;
      const deadline = isPosted(state) ? state.postedAt + terms.windowSeconds + terms.graceSeconds : postBy;
      if (state.stage === 'dead' || now <= deadline) throw new Revert('NotBefore');
      return die(state, now, 'missed');
    }
    case 'cash':
      return cash(terms, state, call, by, now);
    case 'withdraw':
      return withdraw(terms, state, call.payees);
  }
}

function openOrder(state: BookState, call: Extract<BookCall, { do: 'open-order' }>, payer: string): Outcome {
  if (state.stage === 'dead') throw new Revert('BookDead');
  const order = state.orders.size;
  const [reserved, free] = [BigInt(call.reserved), BigInt(call.free)];
  const { params, refundTo } = call;
  const opened = withOrder(state, order, { payer, refundTo, reserved, free, closeEpoch: null });
  return { state: opened, facts: [{ name: 'OrderOpened', order, payer, refundTo, params, reserved, free }] };
}

function refund(terms: BookTerms, state: BookState, index: number, now: bigint): Outcome {
  const order = orderAt(state, index);
  const isSettled = order.closeEpoch !== null && state.next > order.closeEpoch;
  if (!isSettled && (state.stage !== 'dead' || now < state.since + terms.claimsSeconds))
    throw new Revert('OrderUnsettled');
  const { reserved, free, refundTo } = order;
  if (reserved + free === 0n) throw new Revert('NothingDue');
  const emptied = withOrder(state, index, { ...order, reserved: 0n, free: 0n });
  return {
    state: paid(emptied, refundTo, reserved + free),
    facts: [{ name: 'OrderRefunded', order: index, reserved, free }],
  };
}

function addPayee(state: BookState, payee: string): Outcome {
  if (state.stage === 'dead') throw new Revert('BookDead');
  if (state.payees.includes(payee)) throw new Revert(`PayeeKnown ${payee}`);
  const index = state.payees.length;
  return { state: { ...state, payees: [...state.payees, payee] }, facts: [{ name: 'PayeeAdded', index, payee }] };
}

function post(
  terms: BookTerms,
  state: BookState,
  call: Extract<BookCall, { do: 'post' }>,
  by: string,
  now: bigint,
): Outcome {
  if (state.stage === 'dead' || isPosted(state)) throw new Revert(`StageDiffers ${state.stage}`);
  if (by !== terms.delegate) throw new Revert(`NotAllowed ${by}`);
  if (BigInt(call.epoch) !== state.next) throw new Revert(`EpochDiffers ${state.next}`);
  if (now < endOf(terms, state.next)) throw new Revert('NotBefore');
  const posting = { debits: lanesOf(call.debits), credits: lanesOf(call.credits) };
  const stage = state.stage === 'struck' ? 'amended' : 'posted';
  return {
    state: { ...state, posting, postedAt: now, stage },
    facts: [{ name: 'EpochPosted', epoch: state.next, ...posting }],
  };
}

function finalise(
  terms: BookTerms,
  state: BookState,
  call: Extract<BookCall, { do: 'finalise' }>,
  now: bigint,
): Outcome {
  requirePosting(state, call);
  if (now < state.postedAt + terms.windowSeconds) throw new Revert('NotBefore');
  const posting = state.posting ?? { debits: [], credits: [] };
  const orders = new Map(state.orders);
  let [debits, credits] = [0n, 0n];
  for (const [index, amount] of posting.debits) {
    const order = orderAt(state, index);
    if (order.reserved < amount) throw new Revert(`LaneShort ${index}`);
    orders.set(index, { ...order, reserved: order.reserved - amount });
    debits += amount;
  }
  const balances = new Map(state.balances);
  for (const [index, amount] of posting.credits) {
    if (state.payees[index] === undefined) throw new Revert(`PayeeUnknown ${index}`);
    balances.set(index, (balances.get(index) ?? 0n) + amount);
    credits += amount;
  }
  const kept = epochFee(debits, credits, terms.feeBps);
  if ('refused' in kept) throw new Revert(kept.refused);
  const { fee } = kept;
  balances.set(0, (balances.get(0) ?? 0n) + fee);
  const next = state.next + 1n;
  const moved = { ...state, orders, balances, next, stage: 'waiting' as const, since: now, posting: null };
  return { state: moved, facts: [{ name: 'EpochFinal', epoch: state.next, debits, credits, fee }] };
}

function contest(terms: BookTerms, state: BookState, claim: Claim, now: bigint): Outcome {
  if (!isPosted(state) || state.posting === null) throw new Revert(`StageDiffers ${state.stage}`);
  if (!claim.isSigned || BigInt(claim.epoch) !== state.next) throw new Revert('SignatureBad');
  const payee = state.payees.indexOf(claim.payee);
  if (payee < 0) throw new Revert('PayeeUnknown');
  const posted = state.posting.credits.find(([index]) => index === payee)?.[1] ?? 0n;
  if (BigInt(claim.total) <= posted) throw new Revert('CreditCovers');
  const penalty = terms.penalty < state.bond ? terms.penalty : state.bond;
  const toPayee = penalty / 2n;
  const balances = new Map(state.balances).set(payee, (state.balances.get(payee) ?? 0n) + toPayee);
  const struck = { ...paid(state, 'treasury', penalty - toPayee), balances, bond: state.bond - penalty };
  const fact: ChainFact = { name: 'EpochStruck', epoch: state.next, payee, penalty };
  if (state.stage !== 'amended')
    return { state: { ...struck, stage: 'struck', since: now, posting: null }, facts: [fact] };
  const dead = die(struck, now, 'contested');
  return { state: dead.state, facts: [fact, ...dead.facts] };
}

/** Vouchers of a dead book, from the lanes: each (payee, epoch, order) once, never for less than it says. */
function cash(
  terms: BookTerms,
  state: BookState,
  call: Extract<BookCall, { do: 'cash' }>,
  by: string,
  now: bigint,
): Outcome {
  if (state.stage !== 'dead' || now < state.since + terms.noticeSeconds) throw new Revert('NotBefore');
  if (BigInt(call.epoch) < state.next) throw new Revert('EpochFinal');
  const payee = state.payees.indexOf(by);
  if (payee < 0) throw new Revert('PayeeUnknown');
  const orders = new Map(state.orders);
  const cashed = new Set(state.cashed);
  const lanes: Lane[] = [];
  let net = 0n;
  for (const claim of call.claims) {
    const key = `${payee}/${call.epoch}/${claim.order}`;
    const order = orderAt(state, claim.order);
    const amount = BigInt(claim.cumulative);
    if (!claim.isSigned || claim.payee !== by || claim.epoch !== call.epoch) throw new Revert('SignatureBad');
    if (cashed.has(key)) throw new Revert('Cashed');
    if ((orders.get(claim.order)?.reserved ?? 0n) < amount) throw new Revert('LaneShort');
    orders.set(claim.order, { ...order, reserved: (orders.get(claim.order)?.reserved ?? 0n) - amount });
    cashed.add(key);
    lanes.push([claim.order, amount]);
    net += amount;
  }
  const balances = new Map(state.balances).set(payee, (state.balances.get(payee) ?? 0n) + net);
  return {
    state: { ...state, orders, cashed, balances },
    facts: [{ name: 'VouchersCashed', payee, epoch: BigInt(call.epoch), cashed: lanes }],
  };
}

function withdraw(terms: BookTerms, state: BookState, payees: readonly number[]): Outcome {
  let moved = state;
  const sent: Lane[] = [];
  for (const index of payees) {
    const amount = moved.balances.get(index) ?? 0n;
    const to = index === 0 ? terms.feeTo : moved.payees[index];
    if (to === undefined) throw new Revert('PayeeUnknown');
    moved = { ...paid(moved, to, amount), balances: new Map(moved.balances).set(index, 0n) };
    sent.push([index, amount]);
  }
  if (sent.every(([, amount]) => amount === 0n)) throw new Revert('NothingDue');
  return { state: moved, facts: [{ name: 'Withdrawn', sent }] };
}

function die(state: BookState, now: bigint, why: string): Outcome {
  return { state: { ...state, stage: 'dead', since: now, posting: null }, facts: [{ name: 'BookDied', why }] };
}

function requirePosting(
  state: BookState,
  shown: { readonly debits: readonly TextLane[]; readonly credits: readonly TextLane[] },
): void {
  if (!isPosted(state) || state.posting === null) throw new Revert(`StageDiffers ${state.stage}`);
  const { debits, credits } = state.posting;
  const isSame = textOf(debits) === JSON.stringify(shown.debits) && textOf(credits) === JSON.stringify(shown.credits);
  if (!isSame) throw new Revert('PostingDiffers');
}

function isPosted(state: BookState): boolean {
  return state.stage === 'posted' || state.stage === 'amended';
}

function orderAt(state: BookState, index: number): BookOrder {
  const order = state.orders.get(index);
  if (order === undefined) throw new Revert(`OrderUnknown ${index}`);
  return order;
}

function withOrder(state: BookState, index: number, order: BookOrder): BookState {
  return { ...state, orders: new Map(state.orders).set(index, order) };
}

function paid(state: BookState, to: string, amount: bigint): BookState {
  return { ...state, paidOut: new Map(state.paidOut).set(to, (state.paidOut.get(to) ?? 0n) + amount) };
}

export function endOf(terms: BookTerms, epoch: bigint): bigint {
  return terms.startsAt + (epoch + 1n) * terms.epochSeconds;
}

export function epochAt(terms: BookTerms, now: bigint): bigint {
  return now <= terms.startsAt ? 0n : (now - terms.startsAt) / terms.epochSeconds;
}

export function lanesOf(lanes: readonly TextLane[]): Lane[] {
  return lanes.map(([index, amount]) => [index, BigInt(amount)]);
}

export function textLanes(lanes: ReadonlyMap<number, bigint>): TextLane[] {
  return [...lanes].sort(([a], [b]) => a - b).map(([index, amount]) => [index, String(amount)]);
}

function textOf(lanes: readonly Lane[]): string {
  return JSON.stringify(lanes.map(([index, amount]) => [index, String(amount)]));
}
