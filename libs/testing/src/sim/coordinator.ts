import { createHmac } from 'node:crypto';
import {
  chooseAuditors,
  detectQueueLoss,
  finalizeBatch,
  guardPayouts,
  issueVoucher,
  LeaseDesk,
  reapLeases,
  relayOutbox,
  VoucherPages,
  SEEN_EVERY_MS,
  settleBook,
  syncChain,
  validateBatch,
  verifyResult,
  type Auditors,
  type ChainSender,
  type Escrow,
  type Outbox,
  type QueueMessage,
  type Topic,
  type WorkQueue,
} from '@freehold/market';
import { workOfLineBytes, type Catalogue, type LeaseRef } from '@freehold/protocol';
import { ChainEndpoint, SentTransactions, SimBlocks, SimEscrow, SimSender } from './chain/sim-escrow.ts';
import type { SimChain } from './chain/sim-chain.ts';
import type { Dice } from './dice.ts';
import type { MemoryDatabase } from './memory/database.ts';
import { MemoryChainHistory } from './memory/memory-chain-history.ts';
import { MemoryOfferBook, type MemoryObjectStore } from './memory/memory-files.ts';
import { MemoryJobStore } from './memory/memory-job-store.ts';
import { MemoryLeaseStore } from './memory/memory-lease-store.ts';
import { MemoryOutbox, relayThrough } from './memory/memory-outbox.ts';
import type { MemoryQueue } from './memory/memory-queue.ts';
import { MemoryPayoutGate, MemorySettlementStore } from './memory/memory-settlement-store.ts';
import { ENGINE_CLASS } from './row-truth.ts';
import type { SimEngine } from './sim-engine.ts';
import type { SimLink } from './sim-link.ts';
import { ConnectionLost, type SimProcess } from './sim-process.ts';
import { SimSignatures, SimSigner } from './sim-signer.ts';
import type { VirtualTime } from './virtual-time.ts';

const NOBODY_LISTED: Catalogue = { v: 1, models: [] };
const OUTAGE_GRACE_MS = 30_000;
/** Of runs that are over in minutes: rows take half a second, a checkpoint at most seven of them. */
const STALL_MS = 45_000;
const TICKS = { relay: 400, reap: 1_500, queue: 3_000, chain: 3_000 } as const;

/** What all processes of the coordinator stand on, and what outlives them. */
export interface CoordinatorGround {
  readonly db: MemoryDatabase;
  readonly objects: MemoryObjectStore;
  readonly queue: MemoryQueue;
  readonly chain: SimChain;
  readonly book: string;
  readonly delegate: string;
  readonly operatorPayer: string;
  readonly feeBps: number;
  readonly gate: MemoryPayoutGate;
  readonly time: VirtualTime;
  readonly ownEngine: SimEngine | null;
  /** Who follows the chain now. */
  readonly office: { holder: SimProcess | null };
  /** Rewrites what the operator's process sends to the chain, in runs with a hostile operator. */
  readonly sends?: (sender: ChainSender) => ChainSender;
  /** Told of every error that no accident explains. */
  readonly report: (what: string, error: unknown) => void;
}

/** A scheduler as `apps/scheduler` wires it, over ports that its process may lose at any call. */
export class SimCoordinator {
  readonly process: SimProcess;
  readonly link: SimLink;
  readonly #ground: CoordinatorGround;
  readonly #dice: Dice;
  readonly #leases: MemoryLeaseStore;
  readonly #outbox: Outbox;
  readonly #queue: WorkQueue;
  readonly #settlement: MemorySettlementStore;
  readonly #escrow: Escrow;
  readonly #sender: ChainSender;
  readonly #ports;
  readonly #auditors: Auditors;
  #desk: LeaseDesk | null = null;

  constructor(ground: CoordinatorGround, process: SimProcess, link: SimLink, dice: Dice) {
    this.#ground = ground;
    this.process = process;
    this.link = link;
    this.#dice = dice;
    const { db, chain, book, delegate } = ground;
    const reach = <T extends object>(name: string, port: T): T => process.reach(name, port);
    this.#leases = reach('LeaseStore', new MemoryLeaseStore(db));
    this.#outbox = outboxReached(process, new MemoryOutbox(db));
    this.#queue = reach('WorkQueue', ground.queue);
    this.#settlement = reach('SettlementStore', new MemorySettlementStore(db));
    this.#escrow = reach('Escrow', new SimEscrow(book, chain));
    const sender = new SimSender(
      delegate,
      reach('ChainTransactions', new SentTransactions(db)),
      reach('Endpoint', new ChainEndpoint(chain)),
    );
    this.#sender = ground.sends?.(sender) ?? sender;
    this.#ports = {
      leases: this.#leases,
      jobs: reach('JobStore', new MemoryJobStore(db)),
      objects: reach('ObjectStore', ground.objects),
      offers: reach('OfferBook', new MemoryOfferBook(db)),
      blocks: reach('Blocks', new SimBlocks(chain)),
      history: reach('ChainHistory', new MemoryChainHistory(db, { book, operatorPayer: ground.operatorPayer })),
      gate: reach('PayoutGate', ground.gate),
      link,
      signer: new SimSigner(delegate),
      signatures: new SimSignatures(),
      readWork: workOfLineBytes,
      catalogue: NOBODY_LISTED,
      fineTunes: { model: () => Promise.resolve(null) },
      holdsModel: () => ground.ownEngine !== null,
    };
    this.#auditors = this.#makeAuditors();
  }

  async start(): Promise<void> {
    await this.#leases.forgiveOutage(OUTAGE_GRACE_MS);
    const desk = this.#makeDesk();
    this.#desk = desk;
    await this.link.listen(desk);
    await detectQueueLoss({ outbox: this.#outbox, queue: this.#queue });
    await this.#consume('validate', async (message) => void (await validateBatch(this.#ports, id(message, 'job'))));
    await this.#consume('place', async () => desk.wake());
    await this.#consume('verify', (message) => this.#verify(message));
    await this.#consume('finalize', async (message) => void (await finalizeBatch(this.#ports, id(message, 'job'))));
    await this.#consume(
      'settle',
      async (message) => void (await issueVoucher(this.#voucherPorts, id(message, 'task'))),
    );
    // One shard, and whoever started last has it; one that lost it is fenced by the compare-and-sets of its leases.
    desk.hold([{ no: 0, epoch: 1 }], 1);
    this.#startTickers(desk);
  }

  get #voucherPorts() {
    return { settlement: this.#settlement, signer: this.#ports.signer, link: this.link };
  }

  #makeAuditors(): Auditors {
    return chooseAuditors({
      link: this.link,
      localEngine: async () => {
        const engine = this.#ground.ownEngine;
        return engine === null ? null : { engine, engineClass: ENGINE_CLASS };
      },
      benched: async (nodeIds) => {
        const records = await this.#leases.nodeRecords(nodeIds);
        return new Set([...records.values()].filter((node) => node.benchedForMs > 0).map((node) => node.nodeId));
      },
      chance: () => this.#dice.unit(),
      clock: { nowMs: () => this.#ground.time.nowMs },
      offers: this.#ports.offers,
      unanswered: (nodeId) => this.#desk?.auditUnanswered(nodeId),
    });
  }

  #makeDesk(): LeaseDesk {
    const clock = { nowMs: () => this.#ground.time.nowMs };
    const pages = new VoucherPages({ ...this.#voucherPorts, clock });
    return new LeaseDesk({
      committed: () => undefined,
      ...this.#ports,
      entropy: { bytes: (length) => this.#dice.bytes(length) },
      clock: { nowMs: () => this.#ground.time.nowMs },
      stallMs: STALL_MS,
      report: (what, error) => this.#report(what, error),
      resendVouchers: async (nodeId, totals) => void (await pages.begin(nodeId, totals)),
      voucherKept: (nodeId, task) => pages.kept(nodeId, task),
    });
  }

  #startTickers(desk: LeaseDesk): void {
    const every = (ms: number, what: string, work: () => Promise<unknown>): void =>
      this.process.repeat(
        ms,
        async () => void (await work()),
        (error) => this.#report(what, error),
      );
    every(TICKS.relay, 'relaying the outbox', () => relayOutbox({ outbox: this.#outbox, queue: this.#queue }, 1_000));
    every(TICKS.reap, 'reaping leases', async () => {
      const held = desk.held();
      const { run } = await reapLeases({
        leases: this.#leases,
        held: () => held,
        stallMs: STALL_MS,
        drop: (nodeId, lease, why, kept) => desk.drop(nodeId, lease, why, kept),
      });
      desk.takeUpCut(held, run);
      this.#auditors.look();
      desk.wake();
    });
    every(SEEN_EVERY_MS, 'saying which nodes are here', () => this.#leases.saw(desk.ready()));
    every(TICKS.queue, 'looking after the queue', () => detectQueueLoss({ outbox: this.#outbox, queue: this.#queue }));
    every(TICKS.chain, 'following the chain', () => this.#followChain());
  }

  /** One process at a time reads the chain and moves the book; a dead one's office is free. */
  async #followChain(): Promise<void> {
    const { office } = this.#ground;
    if (office.holder?.isUp === true) return;
    office.holder = this.process;
    try {
      await syncChain({ escrow: this.#escrow, history: this.#ports.history, fromBlock: 0n, depth: 0n });
      await this.#sender.tick();
      await settleBook({
        escrow: this.#escrow,
        sender: this.#sender,
        settlement: this.#settlement,
        workLog: null,
        payoutsHalted: async () => (await guardPayouts({ escrow: this.#escrow, gate: this.#ports.gate })).halted,
        payoutMin: 1n,
      });
    } finally {
      if (office.holder === this.process) office.holder = null;
    }
  }

  async #verify(message: QueueMessage): Promise<void> {
    const lease = { task: id(message, 'task'), epoch: Number(message.ids['epoch']) };
    const auditors = this.#auditors;
    const { feeBps } = this.#ground;
    for (;;) {
      const verified = await verifyResult(
        { ...this.#ports, auditors, drawSecret, feeBps },
        lease,
        new AbortController().signal,
      );
      if (verified.done) break;
      await this.process.sleep(verified.retryInMs);
    }
    this.#desk?.wake();
  }

  /** A handler that throws is asked again by the queue; one that returns marks its outbox row as done. */
  async #consume(topic: Topic, handle: (message: QueueMessage) => Promise<void>): Promise<void> {
    const work = async (message: QueueMessage): Promise<void> => {
      try {
        await handle(message);
        await this.#outbox.done([message.outboxId]);
      } catch (error) {
        this.#report(topic, error);
        throw error;
      }
    };
    await this.#ground.queue.consumeWhile(topic, work, () => this.process.isUp);
  }

  #report(what: string, error: unknown): void {
    if (error instanceof ConnectionLost) return;
    this.#ground.report(what, error);
  }
}

/** The coordinator's part of a seed: bound to the lease, and nobody else's to know before the draw. */
function drawSecret(lease: LeaseRef): Uint8Array {
  return createHmac('sha256', 'draw').update(`${lease.task} ${lease.epoch}`).digest();
}

/** Claiming, sending and marking are three ways to the database: a process can die between any two. */
function outboxReached(process: SimProcess, outbox: MemoryOutbox): Outbox {
  const reached = process.reach('Outbox', outbox);
  return new Proxy(reached, {
    get: (target, member) =>
      member === 'relay'
        ? (limit: number, send: Parameters<Outbox['relay']>[1]) => relayThrough(target, limit, send)
        : (Reflect.get(target, member, target) as unknown),
  });
}

function id(message: QueueMessage, name: string): string {
  const value = message.ids[name];
  if (typeof value !== 'string') throw new Error(`message ${message.outboxId} carries no ${name}`);
  return value;
}
