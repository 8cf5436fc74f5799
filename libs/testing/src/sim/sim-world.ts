import { createHash } from 'node:crypto';
import type { ChainSender } from '@freehold/market';
import type { BookTerms } from './chain/book-rules.ts';
import { SimChain, type ChainManners } from './chain/sim-chain.ts';
import { SimCoordinator, type CoordinatorGround } from './coordinator.ts';
import { Dice } from './dice.ts';
import { MemoryAccountStore } from './memory/memory-accounts.ts';
import { MemoryDatabase } from './memory/database.ts';
import { recordBefore } from './memory/memory-lease-store.ts';
import { isOver } from './memory/endings.ts';
import { MemoryFileStore, MemoryObjectStore, MemoryOfferBook } from './memory/memory-files.ts';
import { MemoryJobStore } from './memory/memory-job-store.ts';
import { MemoryQueue, type QueueManners } from './memory/memory-queue.ts';
import { MemoryPayoutGate } from './memory/memory-settlement-store.ts';
import { SimEngine } from './sim-engine.ts';
import { SimLink, type NetworkManners } from './sim-link.ts';
import { SimNode, type Conduct } from './sim-node.ts';
import { ConnectionLost, SimProcess, type Weather } from './sim-process.ts';
import { SimRequester, type ApiPorts, type Request } from './sim-requester.ts';
import { VirtualTime } from './virtual-time.ts';

export const FEE_BPS = 500;
export const BOOK = `0x${'b0'.repeat(32)}`;

export interface NodePlan {
  readonly conduct: Conduct;
  /** Nodes of one operator share the payout address. */
  readonly operator: string;
  /** Switched on so late; 0: from the start. */
  readonly arrivesMs?: number;
  /** Its record from before the run; 0: a newcomer. */
  readonly rowsAccepted?: number;
}

export interface RequesterPlan {
  readonly isSelfCustody: boolean;
  readonly requests: readonly Request[];
  readonly deposit?: bigint;
}

/** Who is there and how rough it gets. Everything else follows from the seed. */
export interface Scenario {
  readonly nodes: readonly NodePlan[];
  readonly requesters: readonly RequesterPlan[];
  readonly weather: Weather;
  readonly network: NetworkManners;
  readonly queue: QueueManners;
  readonly chain: ChainManners;
  /** Accidents of machines: how many in a run. */
  readonly nodeCrashes: number;
  readonly cuts: number;
  readonly queueWipes: number;
  readonly zombies: number;
  /** From then on nothing more goes wrong, and everything has to come to its end. */
  readonly calmFromMs: number;
  readonly sends?: (sender: ChainSender) => ChainSender;
  /** The coordinator holds the model itself, and can judge between auditors. */
  readonly ownEngine?: boolean;
  /** Batches of smaller files begin in the commit that takes them; absent: all are validated first. */
  readonly beginBytesMax?: number;
  /** What every node asks for, where it is not the usual. */
  readonly rates?: Readonly<Record<string, string>>;
  /** The operator tells nobody of an acceptance, and gives out no voucher. */
  readonly isMute?: boolean;
  /** Who moves beside what the parts of the world do by themselves: asked once, when the run starts. */
  readonly plays?: (world: SimWorld) => void;
}

/** A run is over when everything is settled; what is not by then never will be. */
export const LIMIT_MS = 420_000;
const LOOK_MS = 500;
const RESTART_MS = 1_500;
/** Shorter than an auditor is waited for. */
const CRASH_MS_MAX = 9_000;
const DEPOSIT = 50_000n;
export const OPERATOR_DEPOSIT = 200_000n;
export const BOND = 100_000n;

/** One market, from the first deposit to the last refund. */
export class SimWorld {
  readonly time = new VirtualTime();
  readonly dice: Dice;
  readonly db: MemoryDatabase;
  readonly objects = new MemoryObjectStore();
  readonly chain: SimChain;
  readonly queue: MemoryQueue;
  readonly nodes: SimNode[] = [];
  readonly requesters: SimRequester[] = [];
  readonly terms: BookTerms;
  readonly errors: string[] = [];
  readonly operatorPayer: string;
  readonly payoutOf = new Map<string, string>();
  deaths = 0;
  readonly #scenario: Scenario;
  readonly #ground: CoordinatorGround;
  #scheduler: SimCoordinator | null = null;
  #api: SimProcess;

  constructor(seed: number, scenario: Scenario) {
    this.dice = new Dice(seed);
    this.#scenario = scenario;
    const ids = this.dice.for('ids');
    const interrupts = this.dice.for('interrupts');
    this.db = new MemoryDatabase({
      nowMs: () => this.time.nowMs,
      uuid: () => ids.uuid(),
      interrupt: () => {
        if (this.#isRough && interrupts.isHit(this.#scenario.weather.losses / 8))
          throw new ConnectionLost('a write', false);
      },
    });
    const delegate = `0x${this.dice.for('delegate').hex(20)}`;
    this.operatorPayer = `0x${this.dice.for('operator').hex(20)}`;
    this.terms = {
      ...{ delegate, feeTo: 'operator', feeBps: FEE_BPS, startsAt: 0n, penalty: 20_000n },
      ...{ epochSeconds: 12n, windowSeconds: 4n, graceSeconds: 60n, noticeSeconds: 20n, claimsSeconds: 60n },
    };
    const { time } = this;
    this.chain = new SimChain({
      time,
      dice: this.dice.for('chain'),
      manners: () => (this.#isRough ? scenario.chain : { ...scenario.chain, reorgs: 0 }),
      terms: this.terms,
      bond: BOND,
    });
    this.queue = new MemoryQueue({
      time,
      dice: this.dice.for('queue'),
      manners: () => (this.#isRough ? scenario.queue : { ...scenario.queue, duplicates: 0 }),
    });
    this.#ground = {
      ...{ db: this.db, objects: this.objects, queue: this.queue, chain: this.chain, book: BOOK, delegate, time },
      ...{
        operatorPayer: this.operatorPayer,
        feeBps: FEE_BPS,
        gate: new MemoryPayoutGate(this.db),
        office: { holder: null },
        ownEngine: scenario.ownEngine === true ? new SimEngine() : null,
      },
      ...(scenario.sends === undefined ? {} : { sends: scenario.sends }),
      report: (what, error) => this.#report(what, error),
    };
    this.#api = this.#process('api 0', () => this.#restartApi());
    this.#cast();
  }

  get #isRough(): boolean {
    return this.time.nowMs > 0 && this.time.nowMs < this.#scenario.calmFromMs;
  }

  #report(what: string, error: unknown): void {
    if (error instanceof ConnectionLost) return;
    if (this.errors.length < 20) this.errors.push(`at ${Math.round(this.time.nowMs)} ms, ${what}: ${String(error)}`);
  }

  #cast(): void {
    for (const plan of this.#scenario.nodes) this.join(plan);
    for (const [i, { isSelfCustody, requests, deposit = DEPOSIT }] of this.#scenario.requesters.entries()) {
      const orgId = `org_${i}`;
      const wallet = `0x${this.dice.for(`wallet ${i}`).hex(20)}`;
      this.db.orgs.insert(orgId, {
        id: orgId,
        trust: isSelfCustody ? 'self-custody' : 'operator-credits',
        wallet: isSelfCustody ? wallet : null,
      });
      const dice = this.dice.for(`requester ${i}`);
      const parts = { orgId, wallet, isSelfCustody, deposit, requests, time: this.time, dice };
      this.requesters.push(
        new SimRequester({ ...parts, api: () => this.#apiPorts(), report: (what, error) => this.#report(what, error) }),
      );
    }
  }

  /** One more node, from now on or later. */
  join({ conduct, operator, arrivesMs = 0, rowsAccepted = 0 }: NodePlan): SimNode {
    const i = this.nodes.length;
    const payout = this.payoutOf.get(operator) ?? `0x${this.dice.for(`payout ${operator}`).hex(20)}`;
    this.payoutOf.set(operator, payout);
    const { rates } = this.#scenario;
    const parts = { id: `node-${i}`, payout, conduct, time: this.time, dice: this.dice.for(`node ${i}`) };
    const node = new SimNode(rates === undefined ? parts : { ...parts, rates });
    this.nodes.push(node);
    if (rowsAccepted > 0) recordBefore(this.db, node.offer, rowsAccepted);
    this.time.at(arrivesMs, () => {
      node.live(() => this.#linkNow());
    });
    return node;
  }

  #process(name: string, onDeath: () => void): SimProcess {
    const dice = this.dice.for(name);
    const weather = (): Weather =>
      this.#isRough ? this.#scenario.weather : { ...this.#scenario.weather, deaths: 0, losses: 0 };
    return new SimProcess(name, {
      time: this.time,
      dice,
      weather,
      onDeath: () => {
        this.deaths += 1;
        onDeath();
      },
    });
  }

  /** Nodes that the scheduler of now has a line to. */
  get connected(): readonly string[] {
    return (
      this.#linkNow()
        ?.nodes()
        .map(({ id }) => id) ?? []
    );
  }

  #linkNow(): SimLink | null {
    return this.#scheduler?.process.isUp === true ? this.#scheduler.link : null;
  }

  #apiPorts(): ApiPorts | null {
    if (!this.#api.isUp) return null;
    const reach = <T extends object>(name: string, port: T): T => this.#api.reach(name, port);
    const reads = {
      jobs: reach('JobStore', new MemoryJobStore(this.db)),
      objects: reach('ObjectStore', this.objects),
      offers: reach('OfferBook', new MemoryOfferBook(this.db)),
      catalogue: { v: 1 as const, models: [] },
      fineTunes: { model: () => Promise.resolve(null) },
    };
    return {
      ...reads,
      files: reach('FileStore', new MemoryFileStore(this.db)),
      accounts: reach('AccountStore', new MemoryAccountStore(this.db)),
      ...(this.#scenario.beginBytesMax === undefined
        ? {}
        : {
            begin: {
              ...reads,
              holdsModel: () => this.#scenario.ownEngine === true,
              admit: () => Promise.resolve(null),
              limits: { bytesMax: this.#scenario.beginBytesMax },
            },
          }),
      entropy: { bytes: (length) => this.dice.bytes(length) },
      memory: this.objects,
      known: new MemoryFileStore(this.db),
    };
  }

  #restartApi(): void {
    this.time.after(RESTART_MS, () => {
      this.#api = this.#process(`api ${this.deaths}`, () => this.#restartApi());
    });
  }

  #startScheduler(): void {
    const name = `scheduler ${this.deaths}`;
    const link = new SimLink({
      time: this.time,
      dice: this.dice.for(`link ${name}`),
      manners: () => (this.#isRough ? this.#scenario.network : { ...this.#scenario.network, lost: 0, repeated: 0 }),
      keepsBack: ({ type }) => this.#scenario.isMute === true && type === 'accepted',
    });
    const process = this.#process(name, () => {
      link.hangUp();
      if (this.#scheduler?.process === process) this.time.after(RESTART_MS, () => this.#startScheduler());
    });
    const scheduler = new SimCoordinator(this.#ground, process, link, this.dice.for(`coordinator ${name}`));
    this.#scheduler = scheduler;
    void scheduler.start().catch((error: unknown) => {
      this.#report('starting', error);
      process.kill();
    });
  }

  /** Runs until everything is settled and paid out; false when that never came. */
  async run(): Promise<boolean> {
    this.#fund();
    this.chain.start();
    this.#startScheduler();
    this.#planAccidents();
    this.#scenario.plays?.(this);
    for (const requester of this.requesters) requester.live();
    let lookedMs = 0;
    await this.time.run(LIMIT_MS, () => {
      if (this.time.nowMs < lookedMs + LOOK_MS) return false;
      lookedMs = this.time.nowMs;
      return this.#isDone();
    });
    return this.#isDone();
  }

  #fund(): void {
    const open = (payer: string, reserved: bigint): void =>
      this.chain.send({
        hash: `0x${createHash('sha256').update(`open ${payer}`).digest('hex')}`,
        from: payer,
        nonce: null,
        call: {
          do: 'open-order',
          params: `0x${payer.slice(2, 18)}`,
          refundTo: payer,
          reserved: String(reserved),
          free: '0',
        },
      });
    open(this.operatorPayer, OPERATOR_DEPOSIT);
    for (const { orgId, wallet, isSelfCustody, deposit } of this.requesters) {
      if (isSelfCustody) open(wallet, deposit);
      else void new MemoryAccountStore(this.db).credit(orgId, deposit, `trial ${orgId}`);
    }
  }

  #planAccidents(): void {
    const { nodeCrashes, cuts, queueWipes, zombies, calmFromMs } = this.#scenario;
    const dice = this.dice.for('accidents');
    const plan = (times: number, happen: () => void): void => {
      for (let i = 0; i < times; i += 1) this.time.at(dice.between(2_000, calmFromMs), happen);
    };
    plan(nodeCrashes, () => dice.pick(this.nodes).crash(dice.between(500, CRASH_MS_MAX)));
    plan(cuts, () => this.#linkNow()?.cut(dice.pick(this.nodes).id));
    plan(queueWipes, () => this.queue.wipe());
    plan(zombies, () => this.#leaveZombie(dice.between(1_000, 20_000)));
  }

  /** The process is cut off from its nodes and replaced, but goes on for a while with what it was at. */
  #leaveZombie(forMs: number): void {
    const old = this.#scheduler;
    if (old?.process.isUp !== true) return;
    old.link.hangUp();
    this.deaths += 1;
    this.#startScheduler();
    this.time.after(forMs, () => old.process.kill());
  }

  #closed = false;

  #isDone(): boolean {
    if (!this.requesters.every(({ isServed }) => isServed) || this.#isRough) return false;
    if (!this.db.jobs.all().every(isOver)) return false;
    if (this.db.outbox.where(({ doneMs }) => doneMs === null).length > 0) return false;
    this.#closeOrders();
    const { orders, balances } = this.chain.head.state;
    const isEmpty =
      [...orders.values()].every(({ reserved }) => reserved === 0n) &&
      [...balances.values()].every((left) => left === 0n);
    return isEmpty && this.db.chainBlocks.get(String(this.chain.head.number)) !== undefined;
  }

  /** Everybody has what they came for: the payers close, and get the rest back when the last epoch is final. */
  #closeOrders(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const [order, { payer }] of this.chain.head.state.orders)
      this.chain.send({
        hash: `0x${createHash('sha256').update(`close ${payer}`).digest('hex')}`,
        from: payer,
        nonce: null,
        call: { do: 'close-order', order },
      });
  }
}
