import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import {
  Blocks,
  chooseAuditors,
  EarlyHands,
  Entropy,
  LeaseDesk,
  LeaseStore,
  MonotonicClock,
  ObjectStore,
  Outbox,
  ProviderLink,
  reapLeases,
  SEEN_EVERY_MS,
  Shards,
  Standstills,
  SignatureCheck,
  Signer,
  sweepPayloads,
  verifyResult,
  WorkQueue,
  type Auditors,
  type Consumer,
  type QueueMessage,
  type Topic,
  memoryListed,
} from '@freehold/market';
import {
  COORDINATOR_CONFIG,
  CoordinatorUseCases,
  inBackground,
  inForeground,
  LocalBases,
  OwnEngines,
  Log,
  ProcessDirectory,
  type CoordinatorConfig,
} from '@freehold/wiring';
import { Ticker } from './ticker.ts';
import { Verdicts } from './verdicts.ts';

const REAP_MS = 1_000;
const RELAY_MS = 50;
const RELAY_ROWS_MAX = 1_000;
/** What was filed is heard of within milliseconds: the relay, which costs eight statements more, takes what no hand took. */
const HANDS_MS = 100;
/** A third of a claim on filed work: one look may be late, and one may fail. */
const RENEW_MS = 3_000;
/** A shard of a scheduler that died is another's after so long, or two of it. */
const SHARDS_MS = 1_000;
/** As often as people ask again. */
const STANDSTILL_MS = 1_000;
const QUEUE_CHECK_MS = 2_000;
/** After a look that failed; others say themselves when the next one is due. */
const CHAIN_MS = 1_000;
const PRUNE_MS = 60_000;
const SWEEP_MS = 60_000;
/** The doctor reads the whole history: often enough for an alarm, seldom enough for a small machine. */
const DOCTOR_MS = 300_000;
/** Outbox rows that are done are kept this long, for the doctor and for people. */
const PRUNE_AFTER_MS = 600_000;
/** A node that was working when we went away gets this much longer than we were away. */
const OUTAGE_GRACE_MS = 30_000;
const CONCURRENCY: Readonly<Record<Topic, number>> = {
  validate: 2,
  place: 1,
  // A verdict waits most of its time: for its block, for auditors, for others to share a commit with.
  verify: 32,
  finalize: 2,
  settle: 4,
  chain: 1,
};

/** What follows an answer. Somebody waits for the rest. */
const FOLLOWS: ReadonlySet<Topic> = new Set(['verify', 'finalize', 'settle', 'chain']);

/** Processes of the scheduler: what arrives on each topic, and what happens when time passes. The rules live in `market`. */
@Injectable()
export class Scheduler implements OnApplicationBootstrap, OnApplicationShutdown {
  readonly #consumers: Consumer[] = [];
  readonly #tickers: Ticker[] = [];
  readonly #hands = new Map<Topic, EarlyHands>();
  #desk: LeaseDesk | null = null;
  /** The shards held at the last look, and their epochs. */
  #held = '';
  #isStandstillShown = false;
  readonly #auditors: Auditors;
  readonly #verdicts: Verdicts;

  constructor(
    @Inject(COORDINATOR_CONFIG) private readonly config: CoordinatorConfig,
    private readonly leases: LeaseStore,
    private readonly shards: Shards,
    private readonly standstills: Standstills,
    private readonly processes: ProcessDirectory,
    private readonly outbox: Outbox,
    private readonly queue: WorkQueue,
    private readonly objects: ObjectStore,
    private readonly link: ProviderLink,
    private readonly signer: Signer,
    private readonly signatures: SignatureCheck,
    private readonly blocks: Blocks,
    private readonly entropy: Entropy,
    private readonly clock: MonotonicClock,
    private readonly engines: OwnEngines,
    private readonly bases: LocalBases,
    private readonly useCases: CoordinatorUseCases,
    private readonly log: Log,
  ) {
    this.#auditors = this.#makeAuditors();
    this.#verdicts = this.#makeVerdicts();
  }

  async onApplicationBootstrap(): Promise<void> {
    const away = await this.leases.forgiveOutage(OUTAGE_GRACE_MS);
    if (away.extended > 0)
      this.log.info({ outageMs: away.outageMs, leases: away.extended }, 'leases extended by the time we were away');
    const desk = this.#makeDesk();
    this.#desk = desk;
    await this.#holdShards(desk);
    await this.link.listen(desk);
    await this.useCases.detectQueueLoss();
    await this.#takeBatches(desk);
    await this.#consume('place', async (message) => placeFor(desk, message));
    await this.#take('verify', (message, signal) =>
      this.#verdicts.reach({ task: id(message, 'task'), epoch: Number(message.ids['epoch']) }, signal),
    );
    await this.#take('finalize', (message, signal) => this.useCases.finalize(id(message, 'job'), signal));
    await this.#consume('settle', async (message) => {
      await this.useCases.issueVoucher(id(message, 'task'));
    });
    await this.#consume('chain', () => this.useCases.settleOnChain());
    this.#startTickers(desk);
  }

  /**
   * New batches are read, and placed, as soon as that is filed; by the queue comes what nobody heard of, or had no hand free for. What a
   * decision took into account is done by that, whoever asked for it.
   */
  async #takeBatches(desk: LeaseDesk): Promise<void> {
    const place = (): void => desk.wake();
    const read = await this.#take('validate', (message, signal) =>
      this.useCases.validate(id(message, 'job'), signal, place),
    );
    const ears = await this.outbox.listen((topic) => {
      if (topic === 'validate') read.look();
      else if (topic === 'place') place();
    });
    this.#consumers.push(ears);
  }

  /**
   * Work of a topic: by the queue, and while a hand is free as soon as it is known to be filed. What this process filed itself costs
   * seventeen statements less than by the queue (a message of each kind, measured).
   */
  async #take(
    topic: Topic,
    handle: (message: QueueMessage, signal: AbortSignal) => Promise<void>,
  ): Promise<EarlyHands> {
    const hands = new EarlyHands({
      ...{ outbox: this.outbox, topic, handsMax: CONCURRENCY[topic], handle },
      report: (what, error) => this.log.warn({ error: String(error) }, what),
    });
    this.#consumers.push(hands);
    this.#hands.set(topic, hands);
    this.#every(RENEW_MS, 'keeping filed work', () => hands.renew());
    await this.#consume(topic, (message, signal) => hands.handle(message, signal));
    return hands;
  }

  /** Something was filed by this process. */
  #lookFor(topic: Topic): void {
    const look = async (): Promise<void> => this.#hands.get(topic)?.look();
    void (FOLLOWS.has(topic) ? inBackground(look) : look());
  }

  /** Where this fails the messages come by the queue, which finds that they were considered. */
  async #tookIn(outboxIds: readonly string[]): Promise<void> {
    try {
      await this.outbox.done(outboxIds);
    } catch (error) {
      this.log.warn({ error: String(error) }, 'marking what was placed as done');
    }
  }

  #makeAuditors(): Auditors {
    return chooseAuditors({
      link: this.link,
      localEngine: async (model, digest) =>
        (await this.bases.engineFor(model, digest)) ?? (await this.engines.engineFor(model, digest)),
      benched: async (nodeIds) =>
        new Set(
          [...(await this.leases.nodeRecords(nodeIds)).values()]
            .filter((node) => node.benchedForMs > 0)
            .map((node) => node.nodeId),
        ),
      chance: Math.random,
      clock: this.clock,
      offers: this.useCases.batchPorts.offers,
      unanswered: (nodeId) => this.#desk?.auditUnanswered(nodeId),
    });
  }

  #makeDesk(): LeaseDesk {
    return new LeaseDesk({
      leases: this.leases,
      objects: this.objects,
      link: this.link,
      signer: this.signer,
      signatures: this.signatures,
      blocks: this.blocks,
      entropy: this.entropy,
      clock: this.clock,
      readWork: this.useCases.readWork,
      training: this.useCases.training,
      listed: memoryListed(this.useCases.batchPorts.catalogue),
      report: (what, error) => this.log.warn({ error: String(error) }, what),
      resendVouchers: (nodeId, totals) => this.useCases.resendVouchers(nodeId, totals),
      voucherKept: (nodeId, task) => this.useCases.voucherKept(nodeId, task),
      committed: () => this.#lookFor('verify'),
      tookIn: (outboxIds) => void inBackground(() => this.#tookIn(outboxIds)),
    });
  }

  async #holdShards(desk: LeaseDesk): Promise<void> {
    const count = this.config.shards;
    const held = await this.shards.hold(count, this.processes.shardsMost);
    const now = held.map(({ no, epoch }) => `${no}@${epoch}`).join(' ');
    if (now === this.#held) return;
    this.#held = now;
    this.log.info({ shards: held, of: count }, 'shards held');
    desk.hold(held, count);
  }

  /** Nothing is written while nothing stands still. */
  async #showStandstill(desk: LeaseDesk): Promise<void> {
    const standstill = desk.standstill();
    const { rests, full, reservations, gangShards } = standstill;
    const isShown = [rests, full, reservations, gangShards].some(({ length }) => length > 0);
    if (isShown || this.#isStandstillShown) await this.standstills.show(this.link.peerId(), standstill);
    this.#isStandstillShown = isShown;
  }

  #startTickers(desk: LeaseDesk): void {
    this.#every(SHARDS_MS, 'holding shards', () => this.#holdShards(desk));
    this.#every(STANDSTILL_MS, 'showing who rests', () => this.#showStandstill(desk));
    this.#every(RELAY_MS, 'relaying the outbox', async () => {
      while ((await this.useCases.relayOutbox(RELAY_ROWS_MAX, HANDS_MS)) === RELAY_ROWS_MAX);
    });
    this.#every(REAP_MS, 'reaping leases', async () => {
      const held = desk.held();
      const reaped = await reapLeases({
        leases: this.leases,
        held: () => held,
        drop: (nodeId, lease, why, kept) => desk.drop(nodeId, lease, why, kept),
      });
      desk.takeUpCut(held, reaped.run);
      this.#auditors.look();
      if (reaped.lost > 0 || reaped.poisoned > 0)
        this.log.info({ lost: reaped.lost, poisoned: reaped.poisoned }, 'leases taken back');
      desk.wake();
    });
    this.#every(SEEN_EVERY_MS, 'saying which nodes are here', () => this.leases.saw(desk.ready()));
    this.#every(QUEUE_CHECK_MS, 'looking after the queue', () => this.useCases.detectQueueLoss());
    this.#every(CHAIN_MS, 'following the chain', () => this.useCases.followChain());
    this.#every(DOCTOR_MS, 'examining the books', () => this.#examine());
    this.#every(PRUNE_MS, 'pruning the outbox', async () => {
      await this.outbox.prune(PRUNE_AFTER_MS);
    });
    this.#every(SWEEP_MS, 'sweeping payloads', async () => {
      const swept = await sweepPayloads({
        leases: this.leases,
        fineTunes: this.useCases.training.fineTunes,
        objects: this.objects,
      });
      if (swept > 0) this.log.info({ swept }, 'payloads removed after their retention');
    });
  }

  #every(intervalMs: number, what: string, work: () => Promise<number | void>): void {
    this.#tickers.push(new Ticker(intervalMs, work, (error) => this.log.warn({ error: String(error) }, what)));
  }

  async #examine(): Promise<void> {
    const found = await this.useCases.examineBooks();
    if (found === null || found.violations.length === 0) return;
    this.log.error(
      { checks: found.checks, violations: found.violations.slice(0, 20) },
      'doctor: the books are not right',
    );
  }

  #makeVerdicts(): Verdicts {
    const ports = {
      leases: this.leases,
      objects: this.objects,
      link: this.link,
      signer: this.signer,
      blocks: this.blocks,
      auditors: this.#auditors,
      readWork: this.useCases.readWork,
      training: this.useCases.training,
      drawSecret: this.useCases.drawSecret,
      feeBps: this.config.feeBps,
    };
    return new Verdicts({
      verify: (lease, signal) => verifyResult(ports, lease, signal),
      rejected: (lease) => {
        this.log.warn(lease, 'lease rejected by audit');
        inForeground(() => this.#desk?.wake());
      },
      passed: (endedJob) => {
        if (endedJob) this.#lookFor('finalize');
        inForeground(() => this.#desk?.nudge());
      },
      issueVoucher: (task) => this.useCases.issueVoucher(task),
      outbox: this.outbox,
      blocks: this.blocks,
      clock: this.clock,
      report: (task, error) => this.log.warn({ task, error: String(error) }, 'issuing a voucher'),
    });
  }

  /** A handler that throws is asked again by the queue; one that returns marks its outbox row as done. */
  async #consume(topic: Topic, handle: (message: QueueMessage, signal: AbortSignal) => Promise<void>): Promise<void> {
    const handled = async (message: QueueMessage, signal: AbortSignal): Promise<void> => {
      await handle(message, signal);
      await this.outbox.done([message.outboxId]);
    };
    const consumer = await this.queue.consume(topic, CONCURRENCY[topic], (message, signal) =>
      FOLLOWS.has(topic) ? inBackground(() => handled(message, signal)) : handled(message, signal),
    );
    this.#consumers.push(consumer);
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all(this.#tickers.map((ticker) => ticker.close()));
    await Promise.all(this.#consumers.map((consumer) => consumer.close()));
    await this.#verdicts.close();
    await this.#desk?.close();
    await this.shards.close();
    await this.link.close();
  }
}

/** What was filed asks for one decision that began after it: most often that was made as soon as it was heard of. */
function placeFor(desk: LeaseDesk, message: QueueMessage): void {
  if (!desk.considered(message.outboxId)) desk.wake();
}

function id(message: QueueMessage, name: string): string {
  const value = message.ids[name];
  if (typeof value !== 'string') throw new Error(`message ${message.outboxId} carries no ${name}`);
  return value;
}
