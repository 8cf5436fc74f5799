import type { OfferModel, RowScore, Work, WorkOutput } from '@freehold/protocol';
import type { Engine } from './ports/engine.ts';
import type { LeaseView } from './ports/lease-store.ts';
import type { OfferBook } from './ports/offer-book.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';
import type { MonotonicClock } from './ports/surroundings.ts';
import { mayHold } from './may-hold.ts';
import { runsRowsAgain } from './verifiable-by.ts';

export interface AuditRow {
  readonly rowNo: number;
  readonly work: Work;
  readonly committed: WorkOutput;
}

/** Somebody who can run a committed row again. */
export interface Auditor {
  readonly id: string;
  readonly kind: 'node' | 'coordinator';
  /** Inside one engine class thresholds are tight. */
  readonly sameClass: boolean;
  /** Its engine gives the same bits as any other of its class. */
  readonly exact: boolean;
  /** Null when it refused, broke or was silent: not a verdict about anybody. */
  score(lease: LeaseView, rows: readonly AuditRow[], signal: AbortSignal): Promise<readonly RowScore[] | null>;
}

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
}

/** A node that was here so recently is on its way back rather than gone. */
export const AUDITOR_RETURN_MS = 15_000;

/** Who was asked, is there and gave no whole answer is asked after everybody else for so long, and gets no new work: it has no time. */
export const AUDIT_REST_MS = 15_000;

/** Who left every audit of so long a time unanswered, and no fewer than so many, is nobody's auditor: no verdict waits for it. */
export const MUTE_AFTER_MS = 600_000;
const MUTE_AUDITS_MIN = 5;
/** For so long. */
export const MUTE_MS = 3_600_000;

export const OWN_ENGINE = 'coordinator';

/**
 * The first that exists: another operator's node whose engine can replay a sampled row, then one that cannot; of these, the same
 * engine class before another; then the coordinator's own engine; at last who did not answer a moment ago. Never the accused's operator, nor one that shares its
 * payout address; nor an operator of whom a connected node was used already. And nobody outside of where the job's rows may be: its
 * region, its pool and its isolation are its requester's word on who sees them, whatever they are looked at for.
 *
 * Who is there and answers nothing for minutes is not asked for an hour: where it is the only one, work that it could see would wait for
 * it to its deadline, unpaid.
 *
 * That nobody can audit is said only by a process that can see: not while no node is connected to it, not right after its start
 * while known auditors come back to it, and not while an auditor's line is down for a moment. Else every restart would let unseen
 * work through.
 */
export function chooseAuditors(ports: ChooseAuditorPorts): Auditors {
  const startedMs = ports.clock.nowMs();
  const seen = new Map<string, { readonly node: Auditing; readonly atMs: number }>();
  const look = (): void => {
    const atMs = ports.clock.nowMs();
    for (const node of ports.link.nodes()) seen.set(node.id, { node, atMs });
    for (const [id, known] of seen) if (atMs - known.atMs > AUDITOR_RETURN_MS) seen.delete(id);
  };
  const silence = new Silence(ports.clock);
  const unanswered = (nodeId: string): void => {
    // Whoever went away has its reasons: its leases tell.
    if (!ports.link.nodes().some(({ id }) => id === nodeId)) return;
    silence.unanswered(nodeId);
    ports.unanswered(nodeId);
  };
  const mayComeBack = async (lease: LeaseView, here: ReadonlySet<string>): Promise<boolean> => {
    look();
    // Who is here and was not chosen is benched: nobody waits for that.
    const able = (node: Auditing): boolean =>
      !here.has(node.id) && mayLook(node, lease) && auditingModel(node, lease) !== undefined;
    if (here.size === 0 || [...seen.values()].some(({ node }) => able(node))) return true;
    if (ports.clock.nowMs() - startedMs > AUDITOR_RETURN_MS) return false;
    const posted = await ports.offers.offers();
    return posted.some((offer) => able({ id: offer.node, address: offer.address, offer }));
  };
  const nodesFor = async (lease: LeaseView, used: ReadonlySet<string>): Promise<ConnectedNode[]> => {
    const nodes = ports.link.nodes();
    // Two nodes of one operator are one opinion: alone they could neither make a quorum nor prove a bad row.
    const heard = nodes.filter(({ id }) => used.has(id));
    const able = nodes.filter(
      (node) =>
        mayLook(node, lease) &&
        !heard.some((other) => isSameOperator(node, other)) &&
        auditingModel(node, lease) !== undefined,
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
  return {
    async next(lease, used, ownFirst = false) {
      const own = ownFirst ? await ownFor(lease, used) : null;
      if (own !== null) return own;
      const nodes = (await nodesFor(lease, used))
        .map((node) => ({
          node,
          order:
            (silence.rests(node.id) ? 16 : 0) +
            (replaysSamples(node, lease) ? 0 : 8) +
            (classOf(node, lease) === lease.engineClass ? 0 : 4) +
            (node.freeSlots > 0 ? 0 : 2) +
            ports.chance(),
        }))
        .sort((a, b) => a.order - b.order);
      const first = nodes[0]?.node;
      const other = first === undefined || silence.rests(first.id) ? await ownFor(lease, used) : null;
      return (
        other ?? (first === undefined ? null : nodeAuditor(ports.link, first, lease, unanswered, silence.answered))
      );
    },
    async anyFor(lease) {
      const here = new Set(ports.link.nodes().map(({ id }) => id));
      if ((await nodesFor(lease, new Set())).length > 0) return true;
      if ((await ports.localEngine(lease.model, lease.digest)) !== null) return true;
      return mayComeBack(lease, here);
    },
    look,
  };
}

/** Who did not answer a moment ago, and who answers no audit at all. */
class Silence {
  readonly #clock: MonotonicClock;
  readonly #restUntil = new Map<string, number>();
  /** Nodes whose last audits are all unanswered. */
  readonly #silent = new Map<string, { audits: number; readonly fromMs: number; lastMs: number }>();

  constructor(clock: MonotonicClock) {
    this.#clock = clock;
  }

  unanswered(nodeId: string): void {
    const nowMs = this.#clock.nowMs();
    for (const [id, untilMs] of this.#restUntil) if (untilMs <= nowMs) this.#restUntil.delete(id);
    this.#restUntil.set(nodeId, nowMs + AUDIT_REST_MS);
    for (const [id, { lastMs }] of this.#silent) if (nowMs - lastMs > MUTE_MS) this.#silent.delete(id);
    const known = this.#silent.get(nodeId) ?? { audits: 0, fromMs: nowMs, lastMs: nowMs };
    this.#silent.set(nodeId, { ...known, audits: known.audits + 1, lastMs: nowMs });
  }

  readonly answered = (nodeId: string): void => {
    this.#silent.delete(nodeId);
  };

  /** It is asked after everybody else. */
  rests(nodeId: string): boolean {
    return (this.#restUntil.get(nodeId) ?? 0) > this.#clock.nowMs();
  }

  /** It is not asked. */
  isMute(nodeId: string): boolean {
    const known = this.#silent.get(nodeId);
    if (known === undefined || known.audits < MUTE_AUDITS_MIN || known.lastMs - known.fromMs < MUTE_AFTER_MS)
      return false;
    if (this.#clock.nowMs() - known.lastMs < MUTE_MS) return true;
    this.#silent.delete(nodeId);
    return false;
  }
}

type Auditing = Pick<ConnectedNode, 'id' | 'address' | 'offer'>;

function mayLook(node: Auditing, lease: LeaseView): boolean {
  return isIndependent(node, lease) && mayHold(lease, node.offer);
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

function classOf(node: ConnectedNode, lease: LeaseView): string | undefined {
  return auditingModel(node, lease)?.class;
}

function nodeAuditor(
  link: ProviderLink,
  node: ConnectedNode,
  lease: LeaseView,
  unanswered: (nodeId: string) => void,
  answered: (nodeId: string) => void,
): Auditor {
  return {
    id: node.id,
    kind: 'node',
    sameClass: classOf(node, lease) === lease.engineClass,
    exact: auditingModel(node, lease)?.models.some((m) => m.digest === lease.digest && m.caps.seed) ?? false,
    async score(audited, rows, signal) {
      // The id says nothing about whose work it is, so that an auditor cannot favour its friends.
      const reply = await link.audit(
        node.id,
        { id: `audit-${node.id.slice(-6)}-${rows.length}`, model: audited.model, digest: audited.digest },
        rows,
        signal,
      );
      const scores = 'scores' in reply ? reply.scores : [];
      // All of it or nothing: an auditor that was heard is not asked again, and what it left out would wait for others for ever.
      const isWhole = rows.every(({ rowNo }) => scores.some((score) => score.rowNo === rowNo));
      (isWhole ? answered : unanswered)(node.id);
      return isWhole ? scores : null;
    },
  };
}

function ownAuditor(engine: Engine, sameClass: boolean, exact: boolean): Auditor {
  return {
    id: OWN_ENGINE,
    kind: 'coordinator',
    sameClass,
    exact,
    async score(lease, rows, signal) {
      const scores: RowScore[] = [];
      for (const row of rows) scores.push(await engine.score(lease.model, row.rowNo, row.work, row.committed, signal));
      return scores;
    },
  };
}
