import fc from 'fast-check';
import { expect, it } from '@jest/globals';
import { ledger, type AccountRef, type LedgerEntry, type Standing } from '@freehold/domain';
import { ledgerOfChain, syncChain, unclaimedLaneOf, type ChainHistory } from '@freehold/market';
import { escrowHolds, factsOf, PAYERS, played, type ChainWish } from './played-chain.ts';

export interface Projection {
  readonly orders: readonly {
    readonly order: number;
    readonly state: string;
    readonly closeEpoch: bigint | null;
    readonly reserved: bigint;
    readonly free: bigint;
  }[];
  readonly epochs: ReadonlyMap<bigint, string>;
}

/** A store's books, and what jobs do to them; chain events reach them through {@link ChainHistory} alone. */
export abstract class BooksWorld {
  abstract readonly history: ChainHistory;
  /** Payout addresses of the book's payees 1, 2, …; 0 is the coordinator's own. */
  abstract readonly payees: readonly string[];
  /** An organisation whose wallet this is. */
  abstract org(wallet: string): Promise<string>;
  /** False when this reference was credited before. */
  abstract credit(org: string, amount: bigint, ref: string): Promise<boolean>;
  /** A job with so much set aside; null when the balance does not reach. */
  abstract hold(org: string, cap: bigint): Promise<string | null>;
  /** One more lease of the job accepted, and accepted again: what that charged, null when there is nothing left to do. */
  abstract work(job: string, payee: number): Promise<LedgerEntry | null>;
  /** The job ends: what came back to its organisation, counted from its hold. */
  abstract finish(job: string): Promise<bigint>;
  /** Closes our epochs up to this one: an epoch is closed before it is posted. */
  abstract closeEpochs(below: bigint): Promise<void>;
  /** What is kept of the chain beside the ledger: orders that are there, and epochs that are not open. */
  abstract projection(): Promise<Projection>;
  /** Every account but the escrow's and the operator's cover: balance, and what the operator advanced. */
  abstract standings(): Promise<readonly (AccountRef & Standing)[]>;
}

const pick = fc.nat({ max: 1_000 });
const amount = fc.oneof(fc.bigInt({ min: 0n, max: 500n }), fc.constantFrom(0n, 1n, 2n ** 63n));
const wish: fc.Arbitrary<ChainWish> = fc.record({
  what: fc.constantFrom(
    'open',
    'open',
    'top-up',
    'refund',
    'bond',
    'unbond',
    'epoch',
    'epoch',
    'strike',
    'redeem',
    'cash',
    'withdraw',
  ),
  pick,
  a: amount,
  b: amount,
});
const move = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('chain' as const), wish, isRead: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('reorganise' as const),
      depth: fc.integer({ min: 1, max: 12 }),
      then: fc.constantFrom('shorter', 'otherwise', 'again', 'back'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('credit' as const), pick, amount }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('hold' as const), pick, cap: fc.bigInt({ min: 1n, max: 200n }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('work' as const), pick }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('finish' as const), pick }) },
);
type Move = typeof move extends fc.Arbitrary<infer T> ? T : never;

/** Everything that can happen on a chain, once. */
const EACH_ONCE: readonly ChainWish['what'][] = [
  'open',
  'top-up',
  'bond',
  'epoch',
  'redeem',
  'cash',
  'strike',
  'withdraw',
  'unbond',
  'refund',
];

/** The market's events in any order, and the books beside what they must say: computed anew from the chain as it is now. */
class Story {
  readonly world: BooksWorld;
  readonly chain = played();
  /** Everything that did not come from the chain. */
  readonly entries: LedgerEntry[] = [];
  readonly #jobs: string[] = [];
  readonly #orgs: string[] = [];
  #refs = 0;

  constructor(world: BooksWorld) {
    this.world = world;
  }

  async begin(): Promise<void> {
    for (const wallet of PAYERS.orgs) this.#orgs.push(await this.world.org(wallet));
    this.chain.begin(this.world.payees);
    await this.read();
  }

  async happen(now: Move): Promise<void> {
    switch (now.do) {
      case 'chain':
        for (const fact of factsOf(this.chain.state, now.wish)) this.chain.mine(fact);
        if (now.isRead) await this.read();
        return;
      case 'reorganise':
        this.chain.reorganise(now.depth, now.then);
        return this.read();
      case 'credit':
        return this.#credit(this.#org(now.pick), now.amount);
      case 'hold':
        return this.#hold(this.#org(now.pick), now.cap);
      case 'work':
        return this.#work(now.pick);
      case 'finish':
        return this.#finish(now.pick);
    }
  }

  /** Twice, because whoever reads the chain may die and begin again. */
  async read(): Promise<void> {
    const posted = this.chain.all().flatMap((event) => (event.name === 'EpochPosted' ? [event.epoch + 1n] : []));
    await this.world.closeEpochs(posted.at(-1) ?? 0n);
    const ports = { escrow: this.chain, history: this.world.history, fromBlock: 0n, depth: 0n };
    await syncChain(ports);
    expect(await syncChain(ports)).toMatchObject({ applied: 0, undone: 0 });
    const [end = null] = await this.world.history.blocks(1);
    // The same events once more, from where we stand: known ones change nothing.
    const events = await this.chain.events(0n, end?.number ?? 0n);
    expect(
      await this.world.history.absorb({ from: end, forkedAt: null, events, to: end ?? { number: 0n, hash: '0x' } }),
    ).toMatchObject({
      applied: 0,
      undone: 0,
    });
  }

  /**
   * Every kind of event, taken back alone: block after block goes, and we look each time. In a story of chance the block that
   * went is mostly followed by another that hides what its way back left.
   */
  async takeBackEachAlone(): Promise<void> {
    const begun = (await this.chain.head()).number;
    for (const what of EACH_ONCE)
      for (const fact of factsOf(this.chain.state, { what, pick: 0, a: 100n, b: 30n })) this.chain.mine(fact);
    await this.examine();
    while ((await this.chain.head()).number > begun) {
      this.chain.reorganise(1, 'shorter');
      await this.examine();
    }
  }

  async #credit(org: string, lent: bigint): Promise<void> {
    const ref = `credit ${this.#next()}`;
    expect(await this.world.credit(org, lent, ref)).toBe(lent > 0n);
    if (lent > 0n) expect(await this.world.credit(org, lent, ref)).toBe(false);
    this.entries.push(ledger.credit(org, lent, ref));
  }

  async #hold(org: string, cap: bigint): Promise<void> {
    const { balance } = await this.#standing(ledger.balanceOf(org));
    const job = await this.world.hold(org, cap);
    expect(job === null).toBe(balance < cap);
    if (job === null) return;
    this.#jobs.push(job);
    this.entries.push(ledger.hold(org, job, cap));
  }

  async #work(n: number): Promise<void> {
    const job = this.#jobs[n % Math.max(1, this.#jobs.length)];
    const charged = job === undefined ? null : await this.world.work(job, 1 + (n % this.world.payees.length));
    if (charged !== null) this.entries.push(charged);
  }

  async #finish(n: number): Promise<void> {
    const [job] = this.#jobs.splice(n % Math.max(1, this.#jobs.length), 1);
    if (job === undefined) return;
    const org = this.entries
      .find(({ kind, ref }) => kind === 'hold' && ref === job)
      ?.postings.find(({ kind }) => kind === 'balance');
    const account = ledger.balanceOf(org?.owner ?? '');
    const before = await this.#standing(account);
    const rest = await this.world.finish(job);
    const after = await this.#standing(account);
    this.entries.push(ledger.release(account.owner, job, rest));
    // What the operator advanced comes back first: money that the chain took is not there to be spent again.
    expect(after.short).toBe(before.short > rest ? before.short - rest : 0n);
  }

  #org(n: number): string {
    return this.#orgs[n % this.#orgs.length] ?? '';
  }
  #next(): number {
    this.#refs += 1;
    return this.#refs;
  }
  async #standing({ kind, owner }: AccountRef): Promise<Standing> {
    const found = (await this.world.standings()).find((one) => one.kind === kind && one.owner === owner);
    return found ?? { balance: 0n, short: 0n };
  }

  /** Every account as it must stand: what happened off the chain, and the chain as it is, as if nothing had ever been undone. */
  async examine(): Promise<void> {
    await this.read();
    const must = new Map<string, bigint>();
    for (const { postings } of [...this.entries, ...this.#chainEntries()])
      for (const { kind, owner, amount: moved } of postings)
        must.set(`${kind} ${owner}`, (must.get(`${kind} ${owner}`) ?? 0n) + moved);
    const standings = await this.world.standings();
    let [sum, advanced] = [0n, 0n];
    for (const { kind, owner, balance, short } of standings) {
      sum += balance;
      advanced += short;
      if (kind === 'operator') continue;
      expect([kind, owner, balance - short]).toEqual([kind, owner, must.get(`${kind} ${owner}`) ?? 0n]);
      if (kind !== 'escrow') expect(balance).toBeGreaterThanOrEqual(0n);
    }
    const of = ({ kind, owner }: AccountRef): bigint =>
      standings.find((one) => one.kind === kind && one.owner === owner)?.balance ?? 0n;
    expect(sum).toBe(0n);
    expect(-of(ledger.ESCROW)).toBe(escrowHolds(this.chain.state));
    expect(of(ledger.OPERATOR)).toBe((must.get('operator operator') ?? 0n) - advanced);
    await this.#examineProjection();
  }

  /** Orders and epochs as the chain's events make them one after the other, as if nothing had ever been undone. */
  async #examineProjection(): Promise<void> {
    const orders = new Map<number, Projection['orders'][number]>();
    const epochs = new Map<bigint, string>();
    const change = (order: number, to: Partial<Projection['orders'][number]>): void => {
      const none = { order, state: 'open', closeEpoch: null, reserved: 0n, free: 0n };
      orders.set(order, { ...(orders.get(order) ?? none), ...to });
    };
    for (const event of this.chain.all()) {
      if (event.name === 'OrderOpened') change(event.order, { reserved: event.reserved, free: event.free });
      if (event.name === 'OrderToppedUp') {
        const { reserved = 0n, free = 0n } = orders.get(event.order) ?? {};
        change(event.order, { reserved: reserved + event.reserved, free: free + event.free });
      }
      if (event.name === 'OrderClosing') change(event.order, { state: 'closing', closeEpoch: event.closeEpoch });
      if (event.name === 'OrderRefunded') change(event.order, { state: 'refunded' });
      if (event.name === 'EpochPosted') epochs.set(event.epoch, 'posted');
      if (event.name === 'EpochFinal') epochs.set(event.epoch, 'final');
    }
    const kept = await this.world.projection();
    expect([...kept.orders].sort((a, b) => a.order - b.order)).toEqual([...orders.values()]);
    for (const [epoch, state] of kept.epochs) expect([epoch, state]).toEqual([epoch, epochs.get(epoch) ?? 'closed']);
    expect(kept.epochs.size).toBeGreaterThanOrEqual(epochs.size);
  }

  #chainEntries(): LedgerEntry[] {
    const { state } = this.chain;
    const payers = new Map<string, AccountRef>(
      PAYERS.orgs.map((wallet, n) => [wallet, ledger.balanceOf(this.#org(n))]),
    );
    const lane = (order: number): AccountRef => {
      const payer = state.orders[order]?.payer ?? '';
      return payer === PAYERS.operator ? ledger.OPERATOR : (payers.get(payer) ?? unclaimedLaneOf(payer));
    };
    const payee = (index: number): string => [PAYERS.delegate, ...this.world.payees][index] ?? '';
    return this.chain
      .all()
      .flatMap((event) =>
        ledgerOfChain(
          event,
          { lane, payee, posted: (epoch) => new Map(this.chain.posted(epoch)), delegate: PAYERS.delegate },
          `${event.blockHash}:${event.logIndex}`,
        ),
      );
  }
}

/**
 * Whatever happens in a market, in whatever order, with reorganisations between: Σ = 0, nobody below zero, escrow = chain, every
 * account what its events say, nothing twice.
 */
export function booksSuite(
  name: string,
  options: { readonly runs: number; readonly moves: number; readonly seed: number },
  world: () => Promise<{ readonly world: BooksWorld; readonly atEnd?: (holds: bigint) => Promise<void> }>,
): void {
  it(`keeps every invariant of the books after any sequence of market events, on ${name}`, async () => {
    let [undone, covered, isTakenBack] = [0, 0, false];
    await fc.assert(
      fc.asyncProperty(
        fc.array(move, { minLength: options.runs === 1 ? options.moves : 0, maxLength: options.moves, size: 'max' }),
        async (moves) => {
          const { world: of, atEnd } = await world();
          const story = new Story(of);
          await story.begin();
          if (!isTakenBack) await story.takeBackEachAlone();
          isTakenBack = true;
          const before = story.chain.reorganisations;
          for (const one of moves) {
            await story.happen(one);
            if (one.do === 'reorganise' || one.do === 'finish') await story.examine();
          }
          await story.examine();
          await atEnd?.(escrowHolds(story.chain.state));
          undone += story.chain.reorganisations - before;
          covered += (await of.standings()).filter(({ short }) => short > 0n).length;
        },
      ),
      // A world that is there once cannot be asked again for a smaller story.
      { numRuns: options.runs, seed: options.seed, endOnFailure: options.runs === 1 },
    );
    // Or nothing of the kind was ever tried.
    expect(undone).toBeGreaterThan(options.runs);
    expect(covered).toBeGreaterThan(0);
  });
}
