import { LEASES_AHEAD } from '@freehold/domain';
import { type HeldLease, leaseKey, type LeaseRef, type SignedOffer } from '@freehold/protocol';
import { LEASE_MS, STALL_MS } from '@freehold/protocol';
import { AUDIT_REST_MS } from './silence.ts';
import type { GrantedLease, LeaseStore, SeenNode } from './ports/lease-store.ts';
import {
  OfferOvertaken,
  OfferRefused,
  type LinkEvents,
  type ProviderLink,
  type RowsEnd,
} from './ports/provider-link.ts';
import type { Entropy, MonotonicClock } from './ports/surroundings.ts';
import { TaskPlacement } from './place-tasks.ts';
import { STRAGGLED } from './stragglers.ts';
import type { HeldShard } from './ports/shards.ts';
import type { Standstill } from './ports/standstills.ts';
import type { KeptTotal } from './ports/settlement-store.ts';
import type { MemoryListed } from './model-facts.ts';
import { offerFault } from './refuse-offer.ts';
import { runLease, type RunLeasePorts } from './run-lease.ts';
import { Rests } from './rests.ts';
import { RunningLeases } from './running-leases.ts';
import { LoadMeter } from './load-meter.ts';
import { LostVouchers } from './lost-vouchers.ts';
import { SpeedMeter } from './speed-meter.ts';

/** A node that refused or broke is left alone this long, doubling up to the maximum: no storm of refusals. */
const REST_MS = 500;
const REST_MS_MAX = 15_000;
/** So is one that kept rows against a request: it cost their job a minute, and had the next as well if it is cheap. */
export const KEPT_REST_MS = 60_000;
export const KEPT_REST_MS_MAX = 600_000;
/** A grant as young as this may have reached its node while the node was writing its hello. */
const GRANT_ON_ITS_WAY_MS = 2_000;
/** Live connections of a process: more nodes need another scheduler, with shards of its own. */
const NODES_MAX = 5_000;
/**
 * Every node at work, and holding its next lease: with fewer, nodes stand idle beside rows that wait. A lease takes 4 KiB of heap here,
 * and one that has 64 short rows on their way 52 KiB (measured): half a gigabyte for all of them, as much again as half of what
 * their connections take. What long rows take, the link bounds for each lease by its window.
 */
export const LEASES_RUNNING_MAX = NODES_MAX * LEASES_AHEAD;
/** A process that takes no more leases says so this often while rows wait. */
const FULL_SAID_EVERY_MS = 60_000;

export interface LeaseDeskPorts extends Omit<RunLeasePorts, 'onRows' | 'onSigned' | 'whyYielded'> {
  readonly entropy: Entropy;
  readonly clock: MonotonicClock;
  /** Called with what went wrong in the background; never with payloads. */
  readonly report: (what: string, error: unknown) => void;
  /** Vouchers and receipts that a returning node has not confirmed yet, or by the totals that it says it has, has lost. */
  readonly resendVouchers: (nodeId: string, totals?: readonly KeptTotal[]) => Promise<void>;
  /** A node says that it has stored a voucher. Only its own are its to confirm. */
  readonly voucherKept: (nodeId: string, task: string) => Promise<void>;
  /** The catalogue's; absent: it lists nothing. */
  readonly listed?: MemoryListed;
  /** A node has committed to a lease: its verdict is filed. */
  readonly committed: () => void;
  /** Work that was filed for the placement is done, by its outbox ids: a decision took it into account. */
  readonly tookIn?: (outboxIds: readonly string[]) => void;
  /** {@link STALL_MS}, where it is not another. */
  readonly stallMs?: number;
  /** {@link LEASES_RUNNING_MAX}, where it is not another. */
  readonly leasesRunningMax?: number;
}

/**
 * The scheduler's desk: who is connected, which leases run through this process, who needs a rest. All of it can be lost at
 * any moment: leases are rebuilt from what nodes present when they come back, everything else is measured again.
 */
export class LeaseDesk implements LinkEvents {
  readonly #ports: LeaseDeskPorts;
  readonly #link: ProviderLink;
  readonly #leases: LeaseStore;
  readonly #running = new RunningLeases();
  /** Nodes that left an audit unanswered, until when. */
  readonly #busy = new Map<string, number>();
  readonly #rests: Rests;
  /** Nodes that kept what they were asked to hand back. */
  readonly #keepers: Rests;
  readonly #vouchers: LostVouchers;
  readonly #speeds = new SpeedMeter();
  readonly #loads = new LoadMeter();
  readonly #placement: TaskPlacement;
  /** Leases whose nodes were asked for them, and why. */
  readonly #askedToYield = new Map<string, string>();
  readonly #runningMax: number;
  #fullSaidAtMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(ports: LeaseDeskPorts) {
    this.#ports = ports;
    this.#runningMax = ports.leasesRunningMax ?? LEASES_RUNNING_MAX;
    this.#link = ports.link;
    this.#leases = ports.leases;
    this.#rests = new Rests(ports.clock, REST_MS, REST_MS_MAX);
    this.#keepers = new Rests(ports.clock, KEPT_REST_MS, KEPT_REST_MS_MAX);
    this.#vouchers = new LostVouchers(ports);
    this.#placement = new TaskPlacement({
      leases: ports.leases,
      link: ports.link,
      entropy: ports.entropy,
      clock: ports.clock,
      resting: (nodeId) =>
        this.#rests.isResting(nodeId) ||
        this.#keepers.isResting(nodeId) ||
        (this.#busy.get(nodeId) ?? 0) > ports.clock.nowMs(),
      measured: (nodeId, digest) => this.#speeds.rowsPerSecond(nodeId, digest),
      loadS: (nodeId, digest) => this.#loads.seconds(nodeId, digest),
      ...(ports.listed === undefined ? {} : { listed: ports.listed }),
      hasRoom: () => this.#takesMore(),
      granted: (lease) => this.#run(lease),
      askToYield: (lease, why) => this.#askToYield(lease, why),
      ...(ports.tookIn === undefined ? {} : { tookIn: ports.tookIn }),
      report: ports.report,
    });
  }

  #takesMore(): boolean {
    if (this.#hasRoom()) return true;
    const nowMs = this.#ports.clock.nowMs();
    if (this.#placement.mayWait && nowMs - this.#fullSaidAtMs >= FULL_SAID_EVERY_MS) {
      this.#fullSaidAtMs = nowMs;
      const leases = `${this.#running.size} leases run through this process, and it takes ${this.#runningMax}`;
      this.#ports.report(
        'placing',
        new Error(
          `${leases}: rows wait until one ends. Start another scheduler, which takes over a part of the nodes.`,
        ),
      );
    }
    return false;
  }

  /** The shards whose nodes this desk serves from now on. Leases of the others run on under another desk. */
  hold(shards: readonly HeldShard[], count: number): void {
    const isOurs = this.#placement.owns;
    const before = new Set(this.#link.nodes().flatMap(({ id }) => (isOurs(id) ? [id] : [])));
    this.#placement.hold(shards, count);
    this.#running.abortAll((nodeId) => !isOurs(nodeId));
    const taken = this.#link.nodes().filter(({ id }) => isOurs(id) && !before.has(id));
    void this.#vouchers.sendAll(taken.map(({ id }) => id));
  }

  async hello(
    node: SignedOffer,
    held: readonly HeldLease[],
    totals: readonly KeptTotal[],
  ): Promise<readonly LeaseRef[]> {
    await this.#remember(node);
    const resumed = await this.#leases.resume(node.offer.node, held, LEASE_MS, this.#ports.stallMs ?? STALL_MS);
    if (this.#placement.owns(node.offer.node)) await this.#takeBackMissing(node.offer.node, held);
    // Not awaited: the link lets a lease of an arriving node wait until its welcome is out.
    this.#vouchers.heard(node.offer.node, totals);
    void this.#arrived(node.offer.node, resumed);
    return resumed;
  }

  async renewed(node: SignedOffer): Promise<void> {
    await this.#remember(node);
    this.wake();
  }

  async #remember(node: SignedOffer): Promise<void> {
    const fault = offerFault(node.offer);
    if (fault !== null) throw new OfferRefused(fault);
    const known = await this.#leases.rememberNode(node);
    if (known.accepted) return;
    // One that was overtaken on its way is asked to come again; nothing is wrong with it.
    throw known.code === 'overtaken' ? new OfferOvertaken(known.why) : new OfferRefused(known.why);
  }

  /** A node names all it holds when it comes; what it has nothing of needs no clock to run out, which outages make longer. */
  async #takeBackMissing(nodeId: string, held: readonly HeldLease[]): Promise<void> {
    for (const lease of await this.#leases.missing(nodeId, held, GRANT_ON_ITS_WAY_MS)) {
      if (this.#running.has(leaseKey(lease))) continue;
      await this.#leases.giveBack(lease, 'lose', 'the node came back without it');
    }
  }

  /** Of the processes that a node says hello to, the one that has its shard sends what it lost: each voucher once. */
  async #arrived(nodeId: string, resumed: readonly LeaseRef[]): Promise<void> {
    await this.#takeUp(nodeId, resumed);
    if (this.#placement.owns(nodeId)) await this.#vouchers.send(nodeId);
  }

  async #takeUp(nodeId: string, resumed: readonly LeaseRef[]): Promise<void> {
    try {
      for (const ref of resumed) {
        const view = await this.#leases.view(ref);
        if (view === null || view.committed || view.road !== 'batch' || !this.#placement.owns(nodeId)) continue;
        this.#run(view);
        // Who was away when it was asked never heard it: by a lost line, or because the scheduler that asked is gone.
        if (view.asked) this.#askToYield(view, STRAGGLED);
      }
      this.wake();
    } catch (error) {
      this.#ports.report('taking up the leases of a returning node', error);
    }
  }

  heartbeat(_nodeId: string, leases: readonly HeldLease[]): void {
    if (leases.length === 0) this.nudge();
  }

  async refuse(nodeId: string, lease: LeaseRef, code: string): Promise<void> {
    this.#rest(nodeId);
    await this.#leases.giveBack(lease, 'refuse', code, nodeId);
  }

  async yield(nodeId: string, lease: LeaseRef): Promise<void> {
    this.#rest(nodeId);
    const given = await this.#leases.giveBack(lease, 'yield', 'the owner wanted the slot', nodeId);
    if (given.moved) this.#placement.ended(lease, { end: 'yielded' });
    this.wake();
  }

  async kept(nodeId: string, task: string): Promise<void> {
    await this.#ports.voucherKept(nodeId, task);
  }

  /** Who has no time for an audit has none for new work: else it would pay to leave audits to others. */
  auditUnanswered(nodeId: string): void {
    this.#busy.set(nodeId, this.#ports.clock.nowMs() + AUDIT_REST_MS);
    this.#placement.touch(nodeId);
  }

  /** A broken connection proves nothing of leases: the node may still work. Only a lease's clock decides. */
  gone(nodeId: string): void {
    this.#vouchers.gone(nodeId);
  }

  /** Asks for a placement soon. Many wakes make one decision. */
  wake(): void {
    if (!this.#closed) this.#placement.wake();
  }

  /** Asks for a placement if rows are known to wait; nobody has to be read again because a chat began or ended. */
  nudge(): void {
    if (!this.#closed) this.#placement.nudge();
  }

  /** Whether a decision took into account what was filed for the placement under this id. */
  considered(outboxId: string): boolean {
    return this.#placement.considered(outboxId);
  }

  /** Waits until no placement is being decided or written. */
  async settled(): Promise<void> {
    await this.#placement.settled();
  }

  #run(lease: GrantedLease): void {
    const key = leaseKey(lease);
    if (this.#closed || this.#running.has(key)) return;
    const signal = this.#running.begin(key, lease.nodeId);
    this.#placement.resumed(lease);
    void this.#drive(lease, signal).then((end) => {
      this.#running.ended(key);
      this.#askedToYield.delete(key);
      this.#placement.ended(lease, { end });
      this.#placement.touch(lease.nodeId);
      // What does not end with a commitment may bring rows back.
      if (end !== 'committed') return this.wake();
      this.nudge();
      this.#ports.committed();
    });
  }

  /** @returns how its stream ended. Throws nothing. */
  async #drive(lease: GrantedLease, signal: AbortSignal): Promise<RowsEnd['end']> {
    try {
      const measure = this.#speeds.lease(lease.nodeId, lease.digest);
      const load = this.#loads.lease(lease.nodeId, lease.digest, this.#ports.clock.nowMs(), this.#isLoad(lease));
      const onRows = (rows: number): void => {
        measure(rows, this.#ports.clock.nowMs());
        load.rows(rows, this.#ports.clock.nowMs());
      };
      const onSigned = (rows: number): void => this.#placement.signed(lease, rows);
      const whyYielded = (): string | null => this.#askedToYield.get(leaseKey(lease)) ?? null;
      const end = await runLease({ ...this.#ports, onRows, onSigned, whyYielded }, lease, signal);
      if (end.end === 'refused' || end.end === 'failed') this.#rest(lease.nodeId);
      else if (end.end === 'committed') this.#didWell(lease.nodeId);
      const speed = this.#speeds.rowsPerSecond(lease.nodeId, lease.digest);
      load.ended(speed);
      if (speed !== undefined) await this.#leases.rememberSpeed(lease.nodeId, lease.digest, speed);
      return end.end;
    } catch (error) {
      // The lease stays as it is: its node presents it again, or its clock runs out.
      this.#rest(lease.nodeId);
      this.#ports.report(`running lease ${lease.task}.${lease.epoch}`, error);
      return 'cut';
    }
  }

  /** Whether its node has to load the model before anything else: what that takes can be seen. */
  #isLoad(lease: GrantedLease): boolean {
    const { nodeId, digest } = lease;
    // It runs already, and is the only one.
    return this.#placement.offersUnloaded(nodeId, digest) && this.#running.countOf(nodeId) === 1;
  }

  /** The node says its last checkpoint and yields as for its owner: what it signed is kept and paid, the rest is leased again. */
  #askToYield(granted: GrantedLease, why: string): boolean {
    const { task, epoch, nodeId } = granted;
    const isTold = this.#link.tell(nodeId, { type: 'yield', lease: { task, epoch }, why });
    // What nobody streams now is asked for again when it is streamed.
    if (isTold && this.#running.has(leaseKey(granted))) this.#askedToYield.set(leaseKey(granted), why);
    return isTold;
  }

  /**
   * Runs leases of connected nodes again that nobody drives any more: a stream was cut while the control stream stayed, or another scheduler
   * died. By the database: a node may have committed to one that is gone.
   *
   * @param held What nodes say they hold. @param run Those of them that run by the database.
   */
  takeUpCut(held: readonly { readonly nodeId: string; readonly lease: LeaseRef }[], run: readonly LeaseRef[]): void {
    const running = new Set(run.map(leaseKey));
    for (const { nodeId, lease } of held) {
      if (!running.has(leaseKey(lease)) || !this.#placement.owns(nodeId)) continue;
      if (this.#running.has(leaseKey(lease)) || this.#rests.isResting(nodeId)) continue;
      void this.#takeUp(nodeId, [lease]);
    }
  }

  /** Every lease that a connected node named in its last heartbeat, for one UPDATE. */
  held(): { nodeId: string; lease: LeaseRef }[] {
    return this.#link.nodes().flatMap((node) =>
      node.leases.map((lease) => ({
        nodeId: node.id,
        lease: { task: lease.task, epoch: lease.epoch },
      })),
    );
  }

  /** Nodes of our shards that would take work, and when they were last heard of. Who drains takes none: it leaves the book as if it had gone. */
  ready(): SeenNode[] {
    const nowMs = this.#ports.clock.nowMs();
    const nodes = this.#link.nodes().filter(({ id, draining }) => !draining && this.#placement.owns(id));
    return nodes.map(({ id: nodeId, lastHeardMs }) => ({ nodeId, agoMs: Math.max(0, nowMs - lastHeardMs) }));
  }

  /** Stops a lease that is no longer wanted. Only who kept it rests: a job may be cancelled, or its end not heard here yet. */
  drop(nodeId: string, lease: LeaseRef, why: string, kept: boolean): void {
    if (this.#placement.lost(lease) && kept) this.#restKeeper(nodeId);
    this.#running.abort(leaseKey(lease));
    this.#link.tell(nodeId, { type: 'drop', lease, why });
  }

  /** What keeps nodes of ours from work for some seconds: nobody else knows of it. */
  standstill(): Standstill {
    const nowMs = this.#ports.clock.nowMs();
    const left = (why: string, untilMs: ReadonlyMap<string, number>): Standstill['rests'] =>
      [...untilMs].flatMap(([nodeId, until]) => (until > nowMs ? [{ nodeId, why, forMs: until - nowMs }] : []));
    return {
      // Of one that rests for several reasons the last is shown: by far the longest.
      rests: [
        ...left('it refused or broke a lease', this.#rests.ends()),
        ...left('it left an audit unanswered', this.#busy),
        ...left('it kept rows that it was asked to hand back', this.#keepers.ends()),
      ],
      full: this.#hasRoom() ? [] : this.#placement.shards,
      shardCount: this.#placement.shardCount,
      reservations: this.#placement.reservations(),
      gangShards: this.#placement.hasGangs ? this.#placement.shards : [],
    };
  }

  get running(): number {
    return this.#running.size;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#running.abortAll();
    await this.#placement.close();
  }

  #rest(nodeId: string): void {
    this.#rests.rest(nodeId);
    this.#placement.touch(nodeId);
  }

  /** Whoever else is there is asked first. Leases that were kept at one time are one time. */
  #restKeeper(nodeId: string): void {
    if (this.#keepers.isResting(nodeId)) return;
    this.#keepers.rest(nodeId);
    this.#placement.touch(nodeId);
  }

  /** Who does one lease and keeps another rests for the other. */
  #didWell(nodeId: string): void {
    this.#rests.forget(nodeId);
    if (!this.#keepers.isResting(nodeId)) this.#keepers.forget(nodeId);
  }

  #hasRoom(): boolean {
    return this.#running.size < this.#runningMax;
  }
}
