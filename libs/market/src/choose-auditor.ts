import type { OfferModel } from '@freehold/protocol';
import { AuditPlaces } from './audit-places.ts';
import { type auditLimitMs, nodeAuditor, OWN_ENGINE, ownAuditor, type Auditor } from './auditor.ts';
import type { Engine } from './ports/engine.ts';
import type { LeaseView } from './ports/lease-store.ts';
import type { OfferBook } from './ports/offer-book.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';
import type { MonotonicClock } from './ports/surroundings.ts';
import { mayHold } from './may-hold.ts';
import { Silence } from './silence.ts';
import { runsRowsAgain } from './verifiable-by.ts';

export interface Auditors {
  /** The best auditor not in `used`, or null. With `ownFirst` the coordinator's own engine is asked before nodes, where it has the model. */
  next(lease: LeaseView, used: ReadonlySet<string>, ownFirst?: boolean): Promise<Auditor | null>;
  /** Whether somebody can audit this lease, now or in a moment. */
  anyFor(lease: LeaseView): Promise<boolean>;
  /** Remembers who is connected now; called every second or so. */
  look(): void;
}

export interface ChooseAuditorPorts {
  readonly link: ProviderLink;
  /** The coordinator's own engine for a model, when it holds the model within its memory limit. */
  readonly localEngine: (model: string, digest: string) => Promise<{ engine: Engine; engineClass: string } | null>;
  /** Nodes that are benched audit nobody. */
  readonly benched: (nodeIds: readonly string[]) => Promise<ReadonlySet<string>>;
  /** A number in [0, 1): spreads audits over equals. */
  readonly chance: () => number;
  readonly clock: MonotonicClock;
  readonly offers: OfferBook;
  /** Told of a node that was asked, is there, and gave no whole answer. */
  readonly unanswered: (nodeId: string) => void;
  /** {@link auditLimitMs}, where it is not another. */
  readonly limitMs?: typeof auditLimitMs;
}

/** A node that was here so recently is on its way back rather than gone. */
export const AUDITOR_RETURN_MS = 15_000;

/**
 * The first that exists: another operator's node whose engine can replay a sampled row, then one that cannot; of these, the same
 * engine class before another; then the coordinator's own engine; at last who did not answer a moment ago. Never the accused's operator, nor one that shares its
 * payout address; nor an operator of whom a connected node was used already. And nobody outside of where the job's rows may be: its
 * region, its pool and its isolation are its requester's word on who sees them, whatever they are looked at for.
 *
 * Who answers nothing for minutes is not asked for an hour, nor is its return waited for: where it is the only one, work that it could see
 * would wait for it to its deadline, unpaid. Who has no slot, or is slow, is no such: others could make it so. Who drains has gone.
 *
 * That nobody can audit is said only by a process that can see: not while no node is connected to it, not right after its start
 * while known auditors come back to it, and not while an auditor's line is down for a moment. Else every restart would let unseen
 * work through.
 */
export function chooseAuditors(ports: ChooseAuditorPorts): Auditors {
  const returning = new Returning(ports);
  const silence = new Silence(ports.clock);
  const places = new AuditPlaces(ports.clock);
  const nodesFor = async (lease: LeaseView, used: ReadonlySet<string>): Promise<ConnectedNode[]> => {
    const nodes = ports.link.nodes();
    // Two nodes of one operator are one opinion: alone they could neither make a quorum nor prove a bad row.
    const heard = nodes.filter(({ id }) => used.has(id));
    const able = nodes.filter(
      (node) => !node.draining && isAble(node, lease) && !heard.some((other) => isSameOperator(node, other)),
    );
    const benched = await ports.benched(able.map((node) => node.id));
    return able.filter((node) => !benched.has(node.id) && !silence.isMute(node.id));
  };
  const ownFor = async (lease: LeaseView, used: ReadonlySet<string>): Promise<Auditor | null> => {
    if (used.has(OWN_ENGINE)) return null;
    const own = await ports.localEngine(lease.model, lease.digest);
    if (own === null) return null;
    const described = (await own.engine.describe()).models.find((model) => model.digest === lease.digest);
    return ownAuditor(own.engine, own.engineClass === lease.engineClass, described?.caps.seed ?? false);
  };
  const order = (node: ConnectedNode, lease: LeaseView): number =>
    (silence.rests(node.id) ? 16 : 0) +
    (replaysSamples(node, lease) ? 0 : 8) +
    (classOf(node, lease) === lease.engineClass ? 0 : 4) +
    (node.freeSlots > 0 && !places.isFull(node.id, slotsFor(node, lease)) ? 0 : 2) +
    ports.chance();
  return {
    async next(lease, used, ownFirst = false) {
      const own = ownFirst ? await ownFor(lease, used) : null;
      if (own !== null) return own;
      const nodes = (await nodesFor(lease, used))
        .map((node) => ({ node, order: order(node, lease) }))
        .sort((a, b) => a.order - b.order);
      const first = nodes[0]?.node;
      const other = first === undefined || silence.rests(first.id) ? await ownFor(lease, used) : null;
      return other ?? (first === undefined ? null : auditorAt(ports, first, lease, silence, places));
    },
    async anyFor(lease) {
      if ((await nodesFor(lease, new Set())).length > 0) return true;
      if ((await ports.localEngine(lease.model, lease.digest)) !== null) return true;
      return returning.mayCome(lease, silence);
    },
    look() {
      returning.look();
      places.look();
    },
  };
}

/** Who was here a moment ago. */
class Returning {
  readonly #ports: ChooseAuditorPorts;
  readonly #startedMs: number;
  readonly #seen = new Map<string, { readonly node: Auditing; readonly atMs: number }>();

  constructor(ports: ChooseAuditorPorts) {
    this.#ports = ports;
    this.#startedMs = ports.clock.nowMs();
  }

  look(): void {
    const atMs = this.#ports.clock.nowMs();
    for (const node of this.#ports.link.nodes()) if (!node.draining) this.#seen.set(node.id, { node, atMs });
    for (const [id, known] of this.#seen) if (atMs - known.atMs > AUDITOR_RETURN_MS) this.#seen.delete(id);
  }

  /** Whether an auditor of this lease is on its way back. Who is waited for again and again is silent like one that does not answer. */
  async mayCome(lease: LeaseView, silence: Silence): Promise<boolean> {
    const { link, clock, offers } = this.#ports;
    this.look();
    const nodes = link.nodes();
    // Where nobody is here it is our own line.
    if (nodes.length === 0) return true;
    // Who is here and was not chosen is benched or mute: nobody waits for that.
    const here = new Set(nodes.filter(({ draining }) => !draining).map(({ id }) => id));
    const able = (node: Auditing): boolean => !here.has(node.id) && isAble(node, lease) && !silence.isMute(node.id);
    const awaited = [...this.#seen.values()].filter(({ node }) => able(node));
    for (const { node } of awaited) silence.missed(node.id);
    if (awaited.length > 0) return true;
    if (clock.nowMs() - this.#startedMs > AUDITOR_RETURN_MS) return false;
    const posted = await offers.offers();
    return posted.some((offer) => able({ id: offer.node, address: offer.address, offer }));
  }
}

function auditorAt(
  { link, unanswered, limitMs }: ChooseAuditorPorts,
  node: ConnectedNode,
  lease: LeaseView,
  silence: Silence,
  places: AuditPlaces,
): Auditor {
  const exact = auditingModel(node, lease)?.models.some((m) => m.digest === lease.digest && m.caps.seed) ?? false;
  return nodeAuditor(
    {
      link,
      ...(limitMs === undefined ? {} : { limitMs }),
      unanswered(nodeId, how) {
        silence.unanswered(nodeId);
        // Also of who went away in the middle: else the way out of every audit would be to hang up.
        if (how === 'silent') silence.missed(nodeId);
        // What it misses of work while it is away, its leases tell.
        if (link.nodes().some(({ id }) => id === nodeId)) unanswered(nodeId);
      },
      async answer(work, signal) {
        if (!(await places.take(node.id, slotsFor(node, lease), signal))) return null;
        try {
          const answer = await work();
          if (answer !== null) silence.answered(node.id);
          return answer;
        } finally {
          places.leave(node.id);
        }
      },
    },
    { id: node.id, sameClass: classOf(node, lease) === lease.engineClass, exact },
  );
}

type Auditing = Pick<ConnectedNode, 'id' | 'address' | 'offer'>;

function isAble(node: Auditing, lease: LeaseView): boolean {
  return isIndependent(node, lease) && mayHold(lease, node.offer) && auditingModel(node, lease) !== undefined;
}

function isIndependent(node: Auditing, lease: LeaseView): boolean {
  return node.id !== lease.nodeId && node.address !== lease.address && node.offer.payout !== lease.payout;
}

function isSameOperator(node: ConnectedNode, other: ConnectedNode): boolean {
  return node.id === other.id || node.address === other.address || node.offer.payout === other.offer.payout;
}

function auditingModel(node: Auditing, lease: LeaseView): ConnectedNode['offer']['engines'][number] | undefined {
  return node.offer.engines.find((engine) =>
    engine.models.some((model) => model.digest === lease.digest && runsRowsAgain(model) && wears(model, lease)),
  );
}

function wears(model: OfferModel, lease: LeaseView): boolean {
  return lease.adapter === null || model.caps.lora;
}

/** Sampled rows can be scored only by an engine that draws with our seed; which rows were drawn is not known here. */
function replaysSamples(node: ConnectedNode, lease: LeaseView): boolean {
  const models = auditingModel(node, lease)?.models ?? [];
  return models.some((model) => model.digest === lease.digest && (model.kind !== 'chat' || model.caps.seed));
}

/** Rows of the lease's model that it runs at once. */
function slotsFor(node: ConnectedNode, lease: LeaseView): number {
  const models = auditingModel(node, lease)?.models ?? [];
  return models.find(({ digest }) => digest === lease.digest)?.slots ?? 1;
}

function classOf(node: ConnectedNode, lease: LeaseView): string | undefined {
  return auditingModel(node, lease)?.class;
}
