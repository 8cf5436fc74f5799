import type { ChainEvent, ChainFact, ChainHead, Lane } from '@freehold/market';

export const PAYERS = {
  orgs: ['0x00000000000000000000000000000000000000a1', '0x00000000000000000000000000000000000000a2'],
  operator: '0x00000000000000000000000000000000000000f1',
  stranger: '0x00000000000000000000000000000000000000e1',
  delegate: '0x00000000000000000000000000000000000000d1',
} as const;

/** What is wished to happen on chain; amounts are cut to what the book allows. */
export interface ChainWish {
  readonly what: 'open' | 'top-up' | 'refund' | 'bond' | 'unbond' | 'epoch' | 'strike' | 'redeem' | 'cash' | 'withdraw';
  readonly pick: number;
  readonly a: bigint;
  readonly b: bigint;
}

interface Order {
  readonly payer: string;
  readonly reserved: bigint;
  readonly free: bigint;
  readonly isRefunded: boolean;
}

/** A book as its contract has it, as far as money goes. */
export interface PlayedBook {
  readonly orders: readonly Order[];
  readonly balances: readonly bigint[];
  readonly bond: bigint;
  readonly epoch: bigint;
}

export function escrowHolds({ orders, balances, bond }: PlayedBook): bigint {
  const lanes = orders.reduce((sum, { reserved, free }) => sum + reserved + free, 0n);
  return lanes + balances.reduce((sum, one) => sum + one, 0n) + bond;
}

const ORDERS_MAX = 6;

/** What the contract would say to this wish; nothing where it would revert. */
export function factsOf(book: PlayedBook, { what, pick, a, b }: ChainWish): readonly ChainFact[] {
  const live = book.orders.flatMap((one, index) => (one.isRefunded ? [] : [index]));
  const order = live[pick % Math.max(1, live.length)];
  const payee = pick % book.balances.length;
  if (what === 'open') return book.orders.length < ORDERS_MAX ? [opened(book, pick, a, b)] : [];
  if (what === 'bond') return a > 0n ? [{ name: 'BondAdded', amount: a }] : [];
  if (what === 'unbond') return book.bond > 0n ? [{ name: 'BondTaken', amount: book.bond }] : [];
  if (what === 'strike') return [{ name: 'EpochStruck', epoch: book.epoch, payee, penalty: least(a, book.bond) }];
  if (what === 'withdraw')
    return [
      { name: 'Withdrawn', sent: book.balances.flatMap((held, n): Lane[] => (n % 2 === pick % 2 ? [[n, held]] : [])) },
    ];
  const found = order === undefined ? undefined : book.orders[order];
  if (order === undefined || found === undefined) return [];
  switch (what) {
    case 'top-up':
      return [{ name: 'OrderToppedUp', order, reserved: a, free: b }];
    case 'refund':
      return [
        { name: 'OrderClosing', order, closeEpoch: book.epoch },
        { name: 'OrderRefunded', order, reserved: found.reserved, free: found.free },
      ];
    case 'redeem': {
      const gross = least(a, found.free);
      return [{ name: 'VoucherRedeemed', order, payee, gross, fee: least(b, gross) }];
    }
    case 'cash':
      return [{ name: 'VouchersCashed', payee, epoch: book.epoch, cashed: [[order, least(a, found.reserved)]] }];
    case 'epoch':
      return epochOf(book, order, pick, least(a, found.reserved), b);
  }
}

function opened(book: PlayedBook, pick: number, reserved: bigint, free: bigint): ChainFact {
  const payers = [...PAYERS.orgs, ...PAYERS.orgs, PAYERS.operator, PAYERS.stranger];
  const payer = payers[pick % payers.length] ?? '';
  return {
    name: 'OrderOpened',
    order: book.orders.length,
    payer,
    refundTo: payer,
    params: '0x0011223344556677',
    reserved,
    free,
  };
}

/** One order is debited; one payee is credited, the coordinator gets the rest. */
function epochOf(book: PlayedBook, order: number, pick: number, debit: bigint, b: bigint): readonly ChainFact[] {
  const payee = 1 + (pick % (book.balances.length - 1));
  const credit = debit - least(b / 10n, debit);
  const { epoch } = book;
  return [
    { name: 'EpochPosted', epoch, debits: [[order, debit]], credits: [[payee, credit]] },
    { name: 'EpochFinal', epoch, debits: debit, credits: credit, fee: debit - credit },
  ];
}

function after(book: PlayedBook, fact: ChainFact, posted: (epoch: bigint) => Posting | undefined): PlayedBook {
  const add = (index: number, moved: bigint, to = book): PlayedBook => ({
    ...to,
    balances: to.balances.map((held, n) => (n === index ? held + moved : held)),
  });
  const lanes = (index: number, reserved: bigint, free: bigint, to = book): PlayedBook => ({
    ...to,
    orders: to.orders.map((one, n) =>
      n === index ? { ...one, reserved: one.reserved + reserved, free: one.free + free } : one,
    ),
  });
  switch (fact.name) {
    case 'OrderOpened': {
      const { payer, reserved, free } = fact;
      return { ...book, orders: [...book.orders, { payer, reserved, free, isRefunded: false }] };
    }
    case 'OrderToppedUp':
      return lanes(fact.order, fact.reserved, fact.free);
    case 'OrderRefunded':
      return {
        ...book,
        orders: book.orders.map((one, n) =>
          n === fact.order ? { ...one, reserved: 0n, free: 0n, isRefunded: true } : one,
        ),
      };
    case 'BondAdded':
      return { ...book, bond: book.bond + fact.amount };
    case 'BondTaken':
      return { ...book, bond: book.bond - fact.amount };
    case 'EpochStruck':
      return { ...add(fact.payee, fact.penalty / 2n), bond: book.bond - fact.penalty };
    case 'EpochFinal': {
      const { debits, credits } = posted(fact.epoch) ?? { debits: [], credits: [] };
      let to = add(0, fact.fee);
      for (const [order, debit] of debits) to = lanes(order, -debit, 0n, to);
      for (const [payee, credit] of credits) to = add(payee, credit, to);
      return { ...to, epoch: fact.epoch + 1n };
    }
    case 'VoucherRedeemed':
      return add(0, fact.fee, add(fact.payee, fact.gross - fact.fee, lanes(fact.order, 0n, -fact.gross)));
    case 'VouchersCashed':
      return fact.cashed.reduce((to, [order, cashed]) => add(fact.payee, cashed, lanes(order, -cashed, 0n, to)), book);
    case 'Withdrawn':
      return fact.sent.reduce((to, [payee, sent]) => add(payee, -sent, to), book);
    case 'PayeeAdded':
      return { ...book, balances: [...book.balances, 0n] };
    case 'BookOpened':
    case 'BookDied':
    case 'OrderClosing':
    case 'EpochPosted':
      return book;
  }
}

interface Posting {
  readonly debits: readonly Lane[];
  readonly credits: readonly Lane[];
}
interface Block {
  readonly hash: string;
  readonly events: readonly ChainEvent[];
  readonly state: PlayedBook;
}

/** A chain of one fact a block, that can be reorganised; it answers what reading the chain asks of an escrow. */
export class PlayedChain {
  #blocks: Block[] = [{ hash: hashOf(0), events: [], state: { orders: [], balances: [], bond: 0n, epoch: 0n } }];
  #foundation = 1;
  #dropped: { readonly parent: string; readonly blocks: readonly Block[] } | null = null;
  #mined = 0;
  reorganisations = 0;

  get state(): PlayedBook {
    return this.#tip().state;
  }

  /** The book and its payees: no reorganisation here goes deeper. */
  begin(payees: readonly string[]): void {
    const times = { startsAt: 0n, epochSeconds: 60, windowSeconds: 60, graceSeconds: 60 };
    this.mine({ name: 'BookOpened', delegate: PAYERS.delegate, feeBps: 500, ...times });
    for (const [index, payee] of [PAYERS.delegate, ...payees].entries())
      this.mine({ name: 'PayeeAdded', index, payee });
    this.#foundation = this.#blocks.length;
  }

  /** Blocks in which nothing of ours happens. */
  idle(blocks: number): void {
    for (let n = 0; n < blocks; n += 1) {
      this.#mined += 1;
      this.#blocks.push({ hash: hashOf(this.#mined), events: [], state: this.state });
    }
  }

  mine(fact: ChainFact): void {
    this.#mined += 1;
    const [hash, blockNumber] = [hashOf(this.#mined), BigInt(this.#blocks.length)];
    const event: ChainEvent = { ...fact, blockNumber, blockHash: hash, logIndex: 0 };
    const state = after(this.state, fact, (epoch) => this.#posting(epoch));
    this.#blocks.push({ hash, events: [event], state });
  }

  /**
   * The last blocks are gone. `shorter`: nothing came instead yet; `otherwise`: half of what was in them, in new blocks;
   * `again`: all of it in new blocks; `back`: they left and returned as they were.
   */
  reorganise(depth: number, then: 'shorter' | 'otherwise' | 'again' | 'back'): void {
    const keep = Math.max(this.#foundation, this.#blocks.length - depth);
    const gone = this.#blocks.slice(keep);
    if (gone.length === 0) return;
    this.reorganisations += 1;
    this.#blocks = this.#blocks.slice(0, keep);
    const parent = this.#tip().hash;
    const earlier = this.#dropped;
    this.#dropped = { parent, blocks: gone };
    if (then === 'back' && earlier?.parent === parent) this.#blocks.push(...earlier.blocks);
    if (then === 'again') for (const { events } of gone) for (const event of events) this.mine(factOf(event));
    if (then === 'otherwise')
      for (const { events } of gone) if (!isAboutOrders(events)) for (const event of events) this.mine(factOf(event));
  }

  async head(): Promise<ChainHead> {
    return { number: BigInt(this.#blocks.length - 1), hash: this.#tip().hash, timestamp: 0n };
  }
  async hashOf(block: bigint): Promise<string | null> {
    return this.#blocks[Number(block)]?.hash ?? null;
  }
  async events(from: bigint, to: bigint): Promise<readonly ChainEvent[]> {
    return this.#blocks.slice(Number(from), Number(to) + 1).flatMap(({ events }) => events);
  }

  all(): readonly ChainEvent[] {
    return this.#blocks.flatMap(({ events }) => events);
  }
  posted(epoch: bigint): readonly Lane[] {
    return this.#posting(epoch)?.credits ?? [];
  }

  #posting(epoch: bigint): Posting | undefined {
    return this.all().findLast(
      (event): event is Extract<ChainEvent, { name: 'EpochPosted' }> =>
        event.name === 'EpochPosted' && event.epoch === epoch,
    );
  }
  #tip(): Block {
    const tip = this.#blocks.at(-1);
    if (tip === undefined) throw new Error('a chain has a first block');
    return tip;
  }
}

export function played(): PlayedChain {
  return new PlayedChain();
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function hashOf(n: number): string {
  return `0x${n.toString(16).padStart(64, '0')}`;
}

function factOf(event: ChainEvent): ChainFact {
  const { blockNumber: _number, blockHash: _hash, logIndex: _index, ...fact } = event;
  return fact;
}

/** Left out when a fork takes another turn: only bonds are independent of everything else. */
function isAboutOrders(events: readonly ChainEvent[]): boolean {
  return events.some(({ name }) => name !== 'BondAdded');
}
