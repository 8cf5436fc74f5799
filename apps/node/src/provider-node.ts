import type { Engine } from '@freehold/market';
import { type CoordinatorAbout, leaseKey, type LeaseRef } from '@freehold/protocol';
import {
  NodeLink,
  type AuditCall,
  type ChatCall,
  type CoordinatorNews,
  type HelloState,
  type Identity,
  type LeaseFrame,
  type NodeDuties,
  type NodeLinkOptions,
  type PulseState,
  type RowsCall,
  type Welcome,
} from '@freehold/wiring/node';
import { confirmKept } from './confirm-kept.ts';
import { Coordinators, type Coordinator, type Signing } from './coordinators.ts';
import type { LeaseHead } from './journal.ts';
import type { LeaseRun } from './lease-run.ts';
import { LeasesInHand } from './leases-in-hand.ts';
import { OfferDesk, OFFER_RENEW_MS, type OfferFacts } from './offer.ts';
import type { ObjectsAtHand } from './objects-at-hand.ts';
import type { LoadTimes } from './load-times.ts';
import { Receipts } from './receipts.ts';
import { Seats, type Refusal, type Seat } from './seats.ts';
import { serveAudit } from './serve-audit.ts';
import { serveChat } from './serve-chat.ts';
import { SettledWatch } from './settled-watch.ts';
import type { Speeds } from './speeds.ts';
import { UnsignedDesk } from './unsigned-desk.ts';
import { leaseOf, VerdictDesk } from './verdict-desk.ts';

export type NodeLog = (event: string, detail: Record<string, unknown>) => void;

export interface ProviderNodeParts {
  readonly dataDir: string;
  readonly privateKeyHex: string;
  readonly identity: Identity;
  readonly payout: string;
  readonly coordinators: readonly string[];
  readonly engines: readonly Engine[];
  readonly objects: ObjectsAtHand;
  readonly speeds: Speeds;
  readonly loads: LoadTimes;
  readonly seats: {
    readonly rates: Parameters<typeof Seats.describe>[1]['rates'];
    readonly slots: number | null;
    readonly chatSharePercent: number;
    readonly model: string | null;
  };
  readonly machine: Pick<OfferFacts, 'gpus' | 'cpuMilli' | 'memoryMib' | 'diskMib' | 'isolation'>;
  readonly region: string;
  readonly noticeS: number;
  readonly exposureMax: bigint;
  /** Delivered for one coordinator without anything signed for it. */
  readonly unsignedMax: bigint;
  /** Where the node reads for itself what of its promises is on the chain; null: nothing is settled but by `cashout`. */
  readonly rpcUrl: string | null;
  readonly signing: Signing;
  readonly pinned: { readonly chainId: number | null; readonly escrow: string | null };
  /** Told after rows of a lease are on the disk; the flapper dies here. */
  readonly onRows?: (lease: string, done: number) => void;
  readonly log: NodeLog;
  readonly link?: NodeLinkOptions['limits'];
  readonly starvedMs?: number;
  readonly enginesLookMs?: number;
}

const EXPOSURE_LOOK_MS = 5_000;
/** A load takes longer; and who places work takes a node that got some for a model as one that has it. */
const ENGINES_LOOK_MS = 5_000;
/** Epochs take minutes at least; a metered endpoint is asked four questions. */
const SETTLED_LOOK_MS = 30_000;
/** A stopping node lets leases finish for this share of its time, then hands the rest back. */
const FINISH_SHARE = 0.7;
/** The rest of its time is for handing back, and never less than this: a lease cut off costs the node an attempt. */
const HAND_BACK_MS_MIN = 5_000;

/** The provider's node: what it offers, what it admits, what it works on, and what it is owed. */
export class ProviderNode implements NodeDuties {
  readonly #parts: ProviderNodeParts;
  readonly #seats: Seats;
  readonly #coordinators: Coordinators;
  readonly #leases: LeasesInHand;
  readonly #receipts: Receipts;
  readonly #offers: OfferDesk;
  readonly #unsigned: UnsignedDesk;
  readonly #verdicts: VerdictDesk;
  readonly #settled: SettledWatch | null;
  readonly #link: NodeLink;
  readonly #timers: NodeJS.Timeout[] = [];
  /** Leases named in the hello to a process: what its welcome does not name again is stale. */
  readonly #named = new Map<string, readonly LeaseRef[]>();
  #uncashed: bigint;
  #looks = 0;
  #draining = false;

  private constructor(
    parts: ProviderNodeParts,
    rooms: {
      seats: Seats;
      coordinators: Coordinators;
      leases: LeasesInHand;
      receipts: Receipts;
      offers: OfferDesk;
      unsigned: UnsignedDesk;
      uncashed: bigint;
    },
  ) {
    this.#parts = parts;
    this.#seats = rooms.seats;
    this.#coordinators = rooms.coordinators;
    this.#leases = rooms.leases;
    this.#receipts = rooms.receipts;
    this.#offers = rooms.offers;
    this.#unsigned = rooms.unsigned;
    this.#uncashed = rooms.uncashed;
    const { dataDir, rpcUrl, payout, log } = parts;
    const { leases, receipts, unsigned } = rooms;
    const ownPayout = payout === parts.identity.address;
    this.#verdicts = new VerdictDesk({ leases, receipts, unsigned, payout, ownPayout, log });
    this.#settled = rpcUrl === null ? null : new SettledWatch({ dataDir, rpcUrl, payout, log });
    this.#link = new NodeLink({
      privateKeyHex: parts.privateKeyHex,
      coordinators: parts.coordinators,
      agent: 'freehold-node/0.1',
      duties: this,
      ...(parts.link === undefined ? {} : { limits: parts.link }),
      note: ({ event, ...note }) => parts.log(`link-${event}`, note),
    });
  }

  static async start(parts: ProviderNodeParts): Promise<ProviderNode> {
    let changed = (): void => undefined;
    let measured = (): void => undefined;
    const seats = await Seats.describe(parts.engines, { ...parts.seats, onChange: () => changed() });
    const coordinators = new Coordinators(parts.signing, parts.pinned);
    const receipts = await Receipts.open(parts.dataDir, parts.log);
    // Where it cannot be read there is no last figure that could stand: nothing is served on none.
    const uncashed = await receipts.uncashed();
    const offers = await OfferDesk.open(parts.dataDir, () => factsOf(parts, seats), parts.log);
    await offers.renew(nowS());
    const { dataDir, unsignedMax: max, log } = parts;
    let inHand = (): readonly LeaseRun[] => [];
    const unsigned = await UnsignedDesk.open({ dataDir, max, log, inHand: () => inHand() });
    const hooks = {
      onLeft: (run: LeaseRun, rows: number): void => unsigned.left(run, rows),
      onRows: (key: string, done: number, digest: string): void => {
        if (parts.speeds.rows(key, digest, done, performance.now())) measured();
        parts.onRows?.(key, done);
      },
      onSigning: (head: LeaseHead, isWhole: boolean): void => receipts.signing(head, head.coordinator, isWhole),
      onChange: (): void => changed(),
      bring: (peer: string, sha256: string): Promise<void> => parts.objects.bring(peer, sha256),
      log: parts.log,
      ...(parts.starvedMs === undefined ? {} : { starvedMs: parts.starvedMs }),
    };
    const leases = await LeasesInHand.open(parts.dataDir, seats, coordinators, hooks, Date.now());
    inHand = () => leases.all;
    const node = new ProviderNode(parts, { seats, coordinators, leases, receipts, offers, unsigned, uncashed });
    changed = () => node.#link.pulseSoon();
    // What nothing was known of is offered with its figure at once; finer ones wait for the next offer.
    measured = () => void node.#renewed();
    parts.objects.connect({
      peers: () => node.#link.connected().map(({ peer }) => peer),
      fetch: (peer, sha256) => node.#link.fetchObject(peer, sha256),
      bring: (peer, object) => node.#link.bringObject(peer, object),
    });
    await node.#begin();
    return node;
  }

  get models(): readonly string[] {
    return this.#seats.all.map(({ model }) => model.name);
  }

  /** What `status` shows. */
  status(): Record<string, unknown> {
    return {
      node: this.#parts.identity.peerId,
      address: this.#parts.identity.address,
      payout: this.#parts.payout,
      state: this.#draining ? 'draining' : 'up',
      coordinators: this.#link.connected().map(({ peer, welcome }) => ({
        peer,
        coordinator: welcome.coordinator,
        process: welcome.process,
        unsigned: String(this.#unsigned.owed(this.#coordinators.of(peer)?.key ?? '')),
      })),
      models: this.#seats.all.map(({ model, slots, description }) => ({
        name: model.name,
        digest: model.digest,
        engineClass: description.engineClass,
        slots: slots.total,
        free: slots.free,
        chats: slots.chats,
      })),
      leases: this.#leases.all.map((run) => ({
        lease: run.key,
        state: run.state,
        done: run.done,
        rows: run.head.rows,
      })),
      receipts: this.#receipts.count,
      uncashed: String(this.#uncashed),
      exposureMax: String(this.#parts.exposureMax),
      unsignedMax: String(this.#parts.unsignedMax),
    };
  }

  /** No new work from now on; resolves when what is in hand is done. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#link.pulseSoon();
    while (this.#leases.active > 0 || this.#seats.busyChats > 0)
      await new Promise((resolve) => setTimeout(resolve, 50));
  }

  /** Drains for as long as there is time, hands back the rest, and closes. */
  async stop(timeoutMs: number): Promise<void> {
    const finishing = this.#link.connected().length > 0 ? timeoutMs * FINISH_SHARE : 0;
    this.#draining = true;
    this.#link.pulseSoon();
    await Promise.race([this.drain(), new Promise((resolve) => setTimeout(resolve, finishing).unref())]);
    await this.#handBack(Math.max(HAND_BACK_MS_MIN, timeoutMs - finishing));
    for (const timer of this.#timers) clearInterval(timer);
    await this.#link.close();
    await this.#leases.close();
    await this.#unsigned.kept();
    await this.#parts.speeds.keep();
    await this.#parts.loads.keep();
    await Promise.all(this.#parts.engines.map(async (engine) => await engine.close()));
  }

  // What the link asks of the node.

  async hello(peer: string, about: CoordinatorAbout): Promise<HelloState> {
    const coordinator = this.#coordinators.meet(peer, about);
    // What it does not name, the coordinator takes back.
    await this.#leases.journalled();
    const leases = this.#leases.held(coordinator.key);
    this.#named.set(peer, leases);
    const offer = await this.#offers.signedFor(coordinator.key, coordinator.signer);
    return { offer, leases, vouchers: this.#receipts.totals(coordinator.key), draining: this.#draining };
  }

  pulse(peer: string): PulseState {
    const coordinator = this.#coordinators.of(peer);
    return {
      leases: coordinator === null ? [] : this.#leases.held(coordinator.key),
      freeSlots: coordinator !== null && this.#refusesAll(coordinator) === null ? this.#seats.freeSlots : 0,
      busyChats: this.#seats.busyChats,
      draining: this.#draining,
    };
  }

  async welcomed(peer: string, welcome: Welcome): Promise<void> {
    const resumed = new Set(welcome.resumed.map(leaseKey));
    for (const lease of this.#named.get(peer) ?? []) {
      if (!resumed.has(leaseKey(lease))) await this.#leases.drop(lease, 'not in the welcome');
    }
  }

  async told(peer: string, news: CoordinatorNews): Promise<void> {
    const coordinator = this.#coordinators.of(peer);
    if (coordinator === null) return;
    const lease = leaseOf(news);
    const holder = lease === null ? null : this.#leases.find(lease)?.head.coordinator;
    if (lease !== null && holder && holder !== coordinator.key)
      return this.#parts.log('lease-of-another', { lease: leaseKey(lease), told: news.type, by: coordinator.key });
    switch (news.type) {
      case 'drop':
        return await this.#leases.drop(news.lease, news.why);
      case 'yield':
        return this.#leases.find(news.lease)?.yield();
      case 'countersigned':
        return await this.#verdicts.countersigned(coordinator, news);
      case 'rejected':
        return await this.#verdicts.rejected(news);
      case 'accepted': {
        const outcomes = await this.#verdicts.accepted(coordinator, news);
        // Before it says so: whoever hears of a kept voucher may send the next lease in the same breath.
        await this.#look();
        const kept = outcomes.flatMap((outcome) => (outcome.kept ? [outcome.task] : []));
        await confirmKept(kept, (task) => this.#link.tell(peer, { type: 'kept', task }));
      }
    }
  }

  async rows(call: RowsCall): Promise<void> {
    const coordinator = this.#coordinators.of(call.peer);
    if (coordinator === null) return call.abort('streams come after the welcome');
    const taken = await this.#leases.take(call, coordinator, (lease) => this.#seatOrRefusal(coordinator, lease));
    if ('code' in taken) {
      this.#parts.log('lease-refused', { lease: leaseKey(call.lease), ...taken });
      await call.send({ type: 'refused', code: taken.code, message: taken.message.slice(0, 512) });
      await call.close();
      // The coordinator reads the refusal and closes its half; then the stream may go.
      await call.receive().catch(() => null);
      return;
    }
    await taken.serve(call);
  }

  async chat(call: ChatCall): Promise<void> {
    const coordinator = this.#coordinators.of(call.peer);
    if (coordinator === null) throw new Error('requests come after the welcome');
    const { lease, rates } = call.request;
    await serveChat(call, coordinator, this.#seatOrRefusal(coordinator, call.request), {
      answered: (usage) => {
        this.#receipts.signing(lease, coordinator.key, true);
        this.#unsigned.answered(lease.task, coordinator.key, usage, rates);
      },
      unanswered: () => this.#unsigned.unanswered(lease.task),
    });
  }

  async audit(call: AuditCall): Promise<void> {
    await serveAudit(call, this.#seats.find(call.request.model, call.request.digest), this.#draining);
  }

  async #begin(): Promise<void> {
    if (this.#settled === null)
      this.#parts.log('exposure-unwatched', {
        message: 'Without --rpc or RPC_URL what is paid on the chain still counts as exposure until "cashout" is run.',
      });
    this.#timers.push(
      setInterval(() => void this.#look(), EXPOSURE_LOOK_MS),
      setInterval(() => void this.#lookAtEngines(), this.#parts.enginesLookMs ?? ENGINES_LOOK_MS),
      setInterval(() => void this.#lookAtChain(), SETTLED_LOOK_MS),
      setInterval(() => void this.#renewed(), OFFER_RENEW_MS),
    );
    for (const timer of this.#timers) timer.unref();
    await this.#link.start();
  }

  async #look(): Promise<void> {
    this.#looks += 1;
    const mine = this.#looks;
    try {
      const uncashed = await this.#receipts.uncashed();
      // A look that began later saw more: it must not be overwritten by this one.
      if (mine === this.#looks) this.#uncashed = uncashed;
    } catch (error) {
      // No file left to open, a disk that fails: the last figure stands, and the owner is told.
      this.#parts.log('exposure-unreadable', { message: error instanceof Error ? error.message : String(error) });
    }
  }

  /** What is in memory is part of the offer: a market that knows it does not have models drive each other out. */
  async #lookAtEngines(): Promise<void> {
    try {
      if (!(await this.#seats.look())) return;
      await this.#renew();
      this.#seats.offered();
    } catch (error) {
      // An engine that is away, or a full disk: the offer stands, and the next look asks again.
      this.#parts.log('engines-unreadable', { message: error instanceof Error ? error.message : String(error) });
    }
  }

  async #lookAtChain(): Promise<void> {
    try {
      if (this.#settled !== null && (await this.#settled.look(await this.#receipts.open()))) await this.#look();
    } catch (error) {
      // An endpoint that is away: the exposure stays as high as it was, and the next look asks again.
      this.#parts.log('settled-unreadable', { message: error instanceof Error ? error.message : String(error) });
    }
  }

  /** A disk without room costs a renewal: the old offer holds for the rest of its day. */
  async #renewed(): Promise<void> {
    try {
      await this.#renew();
    } catch (error) {
      this.#parts.log('offer-not-renewed', { message: error instanceof Error ? error.message : String(error) });
    }
  }

  async #renew(): Promise<void> {
    await this.#parts.speeds.keep();
    await this.#offers.renew(nowS());
    for (const { peer } of this.#link.connected()) {
      const coordinator = this.#coordinators.of(peer);
      if (coordinator === null) continue;
      await this.#link.tell(peer, {
        type: 'offer',
        offer: await this.#offers.signedFor(coordinator.key, coordinator.signer),
      });
    }
  }

  #refusesAll(coordinator: Coordinator): Refusal | null {
    if (this.#draining) return { code: 'NODE_DRAINING', message: 'The owner asked for no new work.' };
    if (this.#uncashed < this.#parts.exposureMax) return this.#unsigned.refusal(coordinator.key);
    return {
      code: 'EXPOSURE',
      message: `${this.#uncashed} is promised and not cashed; this node serves up to ${this.#parts.exposureMax}.`,
    };
  }

  #seatOrRefusal(coordinator: Coordinator, asked: Pick<LeaseFrame, 'model' | 'digest' | 'rates'>): Seat | Refusal {
    return (
      this.#refusesAll(coordinator) ??
      this.#seats.seatFor(asked.model, asked.digest, asked.rates as Record<string, string>)
    );
  }

  async #handBack(timeoutMs: number): Promise<void> {
    const running = this.#leases.all.filter((run) => run.active);
    for (const run of running) run.yield();
    for (const run of running.filter((candidate) => !candidate.attached)) {
      const [peer] = this.#coordinators.peersOf(run.head.coordinator);
      if (peer !== undefined)
        await this.#link.tell(peer, { type: 'yield', lease: { task: run.head.task, epoch: run.head.epoch } });
    }
    // Also a lease that ended by itself a moment ago: its last word may still be on the way.
    const talking = this.#leases.all.filter((run) => run.attached);
    await Promise.all(talking.map(async (run) => await run.settled(timeoutMs)));
  }
}

const nowS = (): number => Math.floor(Date.now() / 1_000);

function factsOf(parts: ProviderNodeParts, seats: Seats): OfferFacts {
  return {
    node: parts.identity.peerId,
    address: parts.identity.address,
    payout: parts.payout,
    region: parts.region,
    ...parts.machine,
    engines: seats.offerEngines({
      rowsPerSecond: (digest) => parts.speeds.of(digest),
      loadS: (digest) => parts.loads.of(digest),
    }),
    pools: [],
    noticeS: parts.noticeS,
    exposureMax: String(parts.exposureMax),
    chatSharePercent: parts.seats.chatSharePercent,
  };
}
