import {
  type Candidate,
  byUrgency,
  NEWCOMER_ROWS,
  PROMPT_BLOCK_TOKENS,
  shardOf,
  type Demand,
  type Placement,
  type Rates,
} from '@freehold/domain';
import { LEASE_MS, type LeaseRef } from '@freehold/protocol';
import { demandOf } from './ask-of.ts';
import { ClearedPrices } from './cleared-prices.ts';
import { toHex } from './hex.ts';
import { RoomMaking } from './room-making.ts';
import { Stragglers } from './stragglers.ts';
import { ExpectedEnds } from './expected-ends.ts';
import { KeptDemand } from './kept-demand.ts';
import { KeptFleet } from './kept-fleet.ts';
import { KeptWarmth } from './kept-warmth.ts';
import type { MarketFacts } from './model-facts.ts';
import { PromptPrefixes } from './prompt-prefixes.ts';
import type { GrantedLease, LeaseStore, LeaseWish, OpenDemand } from './ports/lease-store.ts';
import type { ProviderLink, RowsEnd } from './ports/provider-link.ts';
import type { HeldShard } from './ports/shards.ts';
import type { Standstill } from './ports/standstills.ts';
import type { Entropy, MonotonicClock } from './ports/surroundings.ts';

/** Leases of one commit: beyond this a statement gains nothing by being longer. */
const BATCH_MAX = 1_000;
/** One batch is decided while the one before is written. */
const BATCHES_IN_FLIGHT_MAX = 2;
/** No row waits longer than a tick of the scheduler, a second, beside a free node that it fits. */
const WIDE_EVERY_MS = 500;
const NONCE_BYTES = 16;
const SEED_BYTES = 4;
/** Decisions lost whole to another scheduler, one after the other, that are made again at once; then the next tick looks. */
const RACES_LOST_MAX = 3;

export interface PlaceTasksPorts extends MarketFacts {
  readonly leases: Pick<LeaseStore, 'demandOf' | 'demandPage' | 'grant' | 'nodeRecords' | 'moved' | 'yieldWithin'>;
  readonly link: Pick<ProviderLink, 'nodes' | 'changes'>;
  readonly entropy: Entropy;
  readonly clock: MonotonicClock;
  readonly resting: (nodeId: string) => boolean;
  /** Whether this process can take on more leases now. */
  readonly hasRoom: () => boolean;
  readonly granted: (lease: GrantedLease) => void;
  /** Told of work filed for the placement (its outbox ids) that a decision has just taken into account: it is done. */
  readonly tookIn?: (outboxIds: readonly string[]) => void;
  /** Asks the node of a running lease to hand back what it has not done, and says why. False when the node is not here. */
  readonly askToYield: (lease: GrantedLease, why: string) => boolean;
  readonly report: (what: string, error: unknown) => void;
}

interface Batch {
  readonly placements: readonly Placement[];
  readonly demands: readonly Demand[];
}

/**
 * Snapshot → decide → compare-and-set, for the nodes of the shards that this process holds. The nodes are kept in an index,
 * and the next batch is decided while one is written; what was not written as decided is undone, and decided anew.
 */
export class TaskPlacement {
  readonly #ports: PlaceTasksPorts;
  readonly #fleet: KeptFleet;
  readonly #prices: ClearedPrices;
  readonly #demand: KeptDemand;
  readonly #warmth: KeptWarmth;
  /** What nodes computed of the beginnings that batches share. */
  readonly #prefixes: PromptPrefixes;
  readonly #room: RoomMaking;
  readonly #stragglers: Stragglers;
  readonly #ends: ExpectedEnds;
  readonly #inFlight = new Set<Batch>();
  readonly #commits = new Set<Promise<void>>();
  #shards: readonly HeldShard[] = [];
  #shardCount = 1;
  #deciding: Promise<void> | null = null;
  #decideAgain = false;
  #cursor: string | null = null;
  /** Work filed of late that a decision took into account. */
  #considered: ReadonlySet<string> = new Set();
  #racesLost = 0;
  #wideAtMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(ports: PlaceTasksPorts) {
    this.#ports = ports;
    const warmth = new KeptWarmth(ports.clock);
    this.#warmth = warmth;
    this.#prefixes = new PromptPrefixes(ports.clock, ports.entropy);
    this.#fleet = new KeptFleet({ ...ports, seed: seedOf(ports.entropy), warmth });
    this.#prices = new ClearedPrices(ports.clock);
    this.#demand = new KeptDemand(ports);
    this.#room = new RoomMaking({ ...ports, candidate: (nodeId) => this.#fleet.candidate(nodeId) });
    this.#stragglers = new Stragglers(ports);
    this.#ends = new ExpectedEnds(ports.clock);
  }

  /** Whether the offer of a node that is placed on says that it would have to load this model. */
  offersUnloaded(nodeId: string, digest: string): boolean {
    return this.#fleet.offersUnloaded(nodeId, digest);
  }

  /** The shards held from now on, of so many in all. */
  hold(shards: readonly HeldShard[], count: number): void {
    this.#shards = shards;
    this.#shardCount = count;
    this.#fleet.reown();
    this.wake();
  }

  readonly owns = (nodeId: string): boolean => {
    const own = shardOf(nodeId, this.#shardCount);
    return this.#shards.some(({ no }) => no === own);
  };

  /** Numbers of the shards held, of {@link shardCount} in all. */
  get shards(): readonly HeldShard['no'][] {
    return this.#shards.map(({ no }) => no);
  }

  get shardCount(): number {
    return this.#shardCount;
  }

  /** Something happened to a node. */
  touch(nodeId: string): void {
    this.#fleet.touch(nodeId);
  }

  /** The stream of a lease that was granted here is over. */
  ended(lease: LeaseRef, end: Pick<RowsEnd, 'end'>): void {
    this.#room.ended(lease);
    this.#stragglers.ended(lease, end);
    this.#ends.ended(lease);
  }

  /** A lease runs again whose stream broke. */
  resumed(lease: LeaseRef): void {
    this.#stragglers.resumed(lease);
  }

  /** A lease was taken back. @returns whether its node kept it, though it was asked for it. */
  lost(lease: LeaseRef): boolean {
    return this.#stragglers.lost(lease);
  }

  /** So many more rows of a lease that was granted here are signed for. */
  signed(lease: LeaseRef, rows: number): void {
    this.#stragglers.signed(lease, rows);
  }

  /** Something happened to a job. */
  touchJob(jobId: string): void {
    this.#demand.touch(jobId);
  }

  /** Whether rows wait, as far as this process knows. */
  get mayWait(): boolean {
    return this.#demand.mayWait;
  }

  /** Whether a decision took into account what was filed for the placement under this id: it needs no other. */
  considered(outboxId: string): boolean {
    return this.#considered.has(outboxId);
  }

  /** Asks for a decision if rows are known to wait, or leases run: what makes others wait asks by itself. */
  nudge(): void {
    if (this.#demand.mayWait || this.#stragglers.isDue) this.wake();
  }

  /** Asks for a decision soon. Many wakes make one. */
  wake(): void {
    if (this.#closed) return;
    if (this.#deciding !== null || this.#inFlight.size >= BATCHES_IN_FLIGHT_MAX) {
      this.#decideAgain = true;
      return;
    }
    this.#decideAgain = false;
    this.#deciding = this.#decide()
      .catch((error: unknown) => this.#ports.report('placing', error))
      .finally(() => {
        this.#deciding = null;
        if (this.#decideAgain) this.wake();
      });
  }

  /** Waits until nothing is being decided or written. */
  async settled(): Promise<void> {
    while (this.#deciding !== null || this.#commits.size > 0) await Promise.all([this.#deciding, ...this.#commits]);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.settled();
  }

  async #decide(): Promise<void> {
    const shards = this.#shards;
    if (shards.length === 0 || !this.#ports.hasRoom()) return;
    // Before the question: what is written while it is answered may be missing from the answer.
    const underWay = [...this.#inFlight].flatMap(({ placements }) => placements);
    const filed = await this.#noteMoves();
    // Chats move tasks by the thousand: nodes are read again when there is something to place on them, or to relieve.
    const needsNodes = (): boolean => this.#demand.size > 0 || this.#stragglers.isDue;
    const isBeside = needsNodes() || filed.some((id) => !this.#considered.has(id));
    await together(this.#demand.refresh(), isBeside ? this.#fleet.refresh(this.owns) : Promise.resolve());
    this.#tookIn(filed);
    if (!needsNodes()) return;
    if (!isBeside) await this.#fleet.refresh(this.owns);
    this.#beside(
      'asking for late leases',
      this.#stragglers.relieve(
        (jobId) => this.#demand.isOpen(jobId),
        () => this.#unkept(),
      ),
    );
    if (this.#demand.size === 0) return;
    const batch = this.#decided(underWay);
    if (batch.placements.length === 0) return;
    if (batch.placements.length >= BATCH_MAX) this.#decideAgain = true;
    this.#inFlight.add(batch);
    const commit = this.#commit(batch, shards).finally(() => {
      this.#inFlight.delete(batch);
      this.#commits.delete(commit);
      if (this.#decideAgain) this.wake();
    });
    this.#commits.add(commit);
  }

  /** What no decision waits for. */
  #beside(what: string, work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => this.#ports.report(what, error))
      .finally(() => this.#commits.delete(done));
    this.#commits.add(done);
  }

  /**
   * Whose tasks moved. What it says is kept before the cursor passes it: an answer is given once.
   *
   * @returns the work filed for the placement of late, also what was told before.
   */
  async #noteMoves(): Promise<readonly string[]> {
    const { jobIds, nodeIds, filed, cursor } = await this.#ports.leases.moved(this.#cursor);
    for (const id of jobIds) this.#demand.touch(id);
    for (const { outboxId, jobId } of filed) if (!this.#considered.has(outboxId)) this.#demand.touch(jobId);
    for (const id of nodeIds) this.#fleet.touch(id);
    this.#cursor = cursor;
    return filed.map(({ outboxId }) => outboxId);
  }

  #tookIn(filed: readonly string[]): void {
    const before = this.#considered;
    this.#considered = new Set(filed);
    const fresh = filed.filter((id) => !before.has(id));
    if (fresh.length > 0) this.#ports.tookIn?.(fresh);
  }

  #decided(underWay: readonly Placement[]): Batch {
    const waiting = withoutUnderWay(this.#open().map(demandOf), underWay);
    this.#fleet.reprice(this.#warmth.look(waiting, this.#fleet.hasCold));
    const demands = waiting.map((demand) => this.#near(this.#warmth.gained(demand)));
    const placements = this.#fleet.place(demands, BATCH_MAX, {
      nowMs: this.#ports.clock.nowMs(),
      freeInMs: this.#ends.freeInMs,
      waits: (jobId) => this.#demand.isGang(jobId),
    });
    this.#warmth.decided(placements, demands);
    const placed = new Set([...underWay, ...placements].map(({ jobId }) => jobId));
    // Nodes are kept for who begins on several: one that is asked to yield is one of them.
    const left = demands.filter(({ ask, gang }) => !placed.has(ask.jobId) && gang === undefined);
    if (placements.length < BATCH_MAX) this.#room.make([...left].sort(byUrgency));
    return { placements, demands };
  }

  /** What this decision is about, and whatever nodes are kept for: its turn comes with each. */
  #open(): readonly OpenDemand[] {
    const next = this.#demand.next(this.#looksWide());
    const reservations = this.#fleet.reservations();
    if (reservations.length === 0) return next;
    const known = new Set(next.map(({ jobId }) => jobId));
    return [...next, ...reservations.flatMap(({ jobId }) => (known.has(jobId) ? [] : (this.#demand.of(jobId) ?? [])))];
  }

  /** Nodes that are kept for nobody. */
  *#unkept(): Generator<Candidate> {
    const kept = new Set(this.#fleet.reservations().flatMap(({ nodeIds }) => nodeIds));
    for (const node of this.#fleet.candidates()) if (!kept.has(node.nodeId)) yield node;
  }

  /** The nodes that are kept for gangs, and until when. */
  reservations(): Standstill['reservations'] {
    const nowMs = this.#ports.clock.nowMs();
    return this.#fleet.reservations().flatMap(({ jobId, nodeIds, startsAtMs, expiresAtMs }) => {
      const orgId = this.#demand.isGang(jobId) ? this.#demand.of(jobId)?.orgId : undefined;
      if (orgId === undefined || expiresAtMs <= nowMs) return [];
      return [{ jobId, orgId, nodeIds, startsInMs: Math.max(0, startsAtMs - nowMs), expiresInMs: expiresAtMs - nowMs }];
    });
  }

  /** Whether work waits here to begin on several nodes at once. */
  get hasGangs(): boolean {
    return this.#demand.hasGangs;
  }

  /** The demand with the nodes that computed a moment ago what all its prompts begin with: once for a lease, so a row saves a part. */
  #near(demand: Demand): Demand {
    const { prompt, ask } = demand;
    if (prompt === undefined) return demand;
    const holding = this.#prefixes.holding(prompt.orgId, prompt.blocks);
    if (holding.size === 0) return demand;
    const savedPerRow = PROMPT_BLOCK_TOKENS / NEWCOMER_ROWS;
    return {
      ...demand,
      ask: { ...ask, cachedOn: new Map([...holding].map(([id, count]) => [id, count * savedPerRow])) },
    };
  }

  /** Whether this decision looks at all that waits: where more does than a decision is about, and a node stands free, twice a tick. */
  #looksWide(): boolean {
    const nowMs = this.#ports.clock.nowMs();
    if (!this.#demand.isWide || !this.#fleet.hasRoom || nowMs - this.#wideAtMs < WIDE_EVERY_MS) return false;
    this.#wideAtMs = nowMs;
    return true;
  }

  async #commit({ placements, demands }: Batch, shards: readonly HeldShard[]): Promise<void> {
    try {
      const rates = this.#prices.ratesFor(placements, demands, () => this.#fleet.candidates());
      const nonces = drawNonces(this.#ports.entropy, placements.length);
      const wishes = placements.map((placement, i) =>
        wishOf(placement, rates[i] ?? placement.model.rates, nonces[i] ?? ''),
      );
      const granted = await this.#ports.leases.grant(wishes, LEASE_MS, shards);
      const rows = new Set(granted.map(keyOf));
      this.#fleet.settle(placements, (placement) => rows.has(keyOf(placement)));
      this.#warmth.settle(placements, (placement) => rows.has(keyOf(placement)));
      for (const [jobId, own] of byJob(placements)) {
        if (own.every((placement) => rows.has(keyOf(placement)))) this.#demand.leased(jobId, own);
        else this.#demand.touch(jobId);
      }
      // Another scheduler had a job's rows first, or jobs are over. Nothing at all, again and again: the shards are another's.
      this.#racesLost = granted.length > 0 ? 0 : this.#racesLost + 1;
      if (granted.length < placements.length && this.#racesLost <= RACES_LOST_MAX) this.#decideAgain = true;
      const jobs = new Map(demands.map((demand) => [demand.ask.jobId, demand]));
      for (const lease of granted) {
        this.#room.began(lease, jobs.get(lease.jobId));
        this.#stragglers.began(lease, jobs.get(lease.jobId));
        this.#ends.began(lease, this.#fleet.candidate(lease.nodeId));
        const prompt = jobs.get(lease.jobId)?.prompt;
        if (prompt !== undefined) this.#prefixes.note(prompt.orgId, prompt.blocks, lease.nodeId);
        this.#ports.granted(lease);
      }
    } catch (error) {
      this.#fleet.settle(placements, () => false);
      this.#warmth.settle(placements, () => false);
      for (const { jobId } of placements) this.#demand.touch(jobId);
      this.#ports.report('writing leases', error);
    }
  }
}

/** Both, also where one fails: whoever comes next finds neither under way. */
async function together(...works: readonly Promise<void>[]): Promise<void> {
  for (const ended of await Promise.allSettled(works)) if (ended.status === 'rejected') throw ended.reason;
}

/** In simulations, whose entropy may be none, 0: the order of names. */
function seedOf(entropy: Entropy): number {
  const bytes = entropy.bytes(SEED_BYTES);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0);
}

/** Nonces of leases: asked for one by one, randomness costs more than the decision. */
export function drawNonces(entropy: Entropy, count: number): string[] {
  const drawn = toHex(entropy.bytes(count * NONCE_BYTES));
  return Array.from(
    { length: count },
    (_, i) => `0x${drawn.slice(2 + 2 * NONCE_BYTES * i, 2 + 2 * NONCE_BYTES * (i + 1))}`,
  );
}

function wishOf(placement: Placement, rates: Rates, nonce: string): LeaseWish {
  const { jobId, taskId, epoch, rowFrom, rowTo, nodeId, model } = placement;
  const { name, digest, engineClass } = model;
  return { jobId, taskId, epoch, rowFrom, rowTo, nodeId, model: name, digest, engineClass, rates, nonce };
}

/** The demand as it will be when everything under way is written. */
export function withoutUnderWay(demands: readonly Demand[], underWay: readonly Placement[]): readonly Demand[] {
  if (underWay.length === 0) return demands;
  const ofJob = byJob(underWay);
  return demands.flatMap((demand) => {
    const own = ofJob.get(demand.ask.jobId);
    if (own === undefined) return [demand];
    if (demand.isRun === true) return [];
    const nextRow = own.reduce((most, one) => (one.taskId === null ? Math.max(most, one.rowTo) : most), demand.nextRow);
    const taken = new Set(own.map(({ taskId }) => taskId));
    // Whoever has a lease under way has begun.
    const { gang: _, ...begun } = demand;
    return [{ ...begun, nextRow, queued: demand.queued.filter(({ taskId }) => !taken.has(taskId)) }];
  });
}

function byJob(placements: readonly Placement[]): ReadonlyMap<string, readonly Placement[]> {
  const jobs = new Map<string, Placement[]>();
  for (const placement of placements) {
    const known = jobs.get(placement.jobId);
    if (known === undefined) jobs.set(placement.jobId, [placement]);
    else known.push(placement);
  }
  return jobs;
}

/** Rows of a job are leased once at a time: that names a lease before it has an id. */
function keyOf({ jobId, rowFrom }: Pick<Placement, 'jobId' | 'rowFrom'>): string {
  return `${jobId} ${rowFrom}`;
}
