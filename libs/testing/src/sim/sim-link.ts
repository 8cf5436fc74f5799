import {
  ProviderLink,
  type ConnectedNode,
  type KeptTotal,
  type LeaseGrant,
  type LinkEvents,
  type RowInput,
  type RowsEnd,
  type RowSink,
  type StreamEvent,
} from '@freehold/market';
import {
  type AuditFromNode,
  type CoordinatorMessage,
  type HeldLease,
  leaseKey,
  type RowScore,
  type SignedOffer,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import type { Dice } from './dice.ts';
import type { VirtualTime } from './virtual-time.ts';

export interface NetworkManners {
  readonly latencyMsMax: number;
  /** Of the messages to nodes, how many never come, and how many come twice. */
  readonly lost: number;
  readonly repeated: number;
}

/** A stream without a frame for so long is cut. */
const SILENCE_MS = 12_000;

/** One node's line to one process of the coordinator. */
export class Connection {
  isUp = true;
  /** What the node named in its last heartbeat. */
  leases: readonly HeldLease[] = [];
}

/** One lease as a node gets it. */
export interface LeaseWork {
  readonly grant: LeaseGrant;
  readonly from: number;
  readonly inputs: AsyncIterable<RowInput>;
  readonly sink: RowSink;
  readonly signal: AbortSignal;
  readonly line: Connection;
  readonly link: SimLink;
}

type AuditRows = readonly { readonly rowNo: number; readonly work: Work; readonly committed: WorkOutput }[];

/** What the far end of a line has to be able to do. */
export interface LinkedNode {
  readonly id: string;
  readonly address: string;
  readonly offer: SignedOffer;
  /** Rises with every row that leaves. */
  readonly signs: number;
  /** The highest total that it has, of each epoch. */
  totals(): readonly KeptTotal[];
  /** What the coordinator does not know any more is dropped. */
  keepOnly(asked: readonly HeldLease[], isKept: (lease: HeldLease) => boolean): void;
  work(lease: LeaseWork): Promise<RowsEnd>;
  /** Null when it will not. */
  audit(rows: AuditRows): Promise<{ readonly scores: readonly RowScore[] } | null>;
  hear(message: CoordinatorMessage, link: SimLink): void;
}

interface Line {
  readonly node: LinkedNode;
  readonly connection: Connection;
}

/** The coordinator's end of all connections, of one process: it goes with the process. */
export class SimLink extends ProviderLink {
  readonly #time: VirtualTime;
  readonly #dice: Dice;
  readonly #manners: () => NetworkManners;
  readonly #lines = new Map<string, Line>();
  #events: LinkEvents | null = null;

  readonly #keepsBack: (message: CoordinatorMessage) => boolean;

  constructor(parts: {
    time: VirtualTime;
    dice: Dice;
    manners: () => NetworkManners;
    /** What this coordinator never says. */
    keepsBack: (message: CoordinatorMessage) => boolean;
  }) {
    super();
    this.#keepsBack = parts.keepsBack;
    this.#time = parts.time;
    this.#dice = parts.dice;
    this.#manners = parts.manners;
  }

  async listen(events: LinkEvents): Promise<void> {
    this.#events = events;
    await Promise.resolve();
  }

  /** A node dials; null when nobody answers. */
  async dial(node: LinkedNode, held: readonly HeldLease[]): Promise<Connection | null> {
    await this.delay();
    const events = this.#events;
    if (events === null) return null;
    const connection = new Connection();
    this.cut(node.id);
    const known = await events.hello(node.offer, held, node.totals());
    const kept = new Set(known.map(leaseKey));
    node.keepOnly(held, (lease) => kept.has(leaseKey(lease)));
    if (this.#events === null) return null;
    this.#lines.set(node.id, { node, connection });
    return connection;
  }

  heartbeat(node: LinkedNode, connection: Connection, held: readonly HeldLease[]): void {
    connection.leases = held;
    this.#events?.heartbeat(node.id, held);
  }

  async kept(nodeId: string, task: string): Promise<void> {
    await this.delay();
    await this.#events?.kept(nodeId, task);
  }

  /** The line breaks; both ends go on with what they were at. */
  cut(nodeId: string): void {
    const line = this.#lines.get(nodeId);
    if (line === undefined) return;
    line.connection.isUp = false;
    this.#lines.delete(nodeId);
    this.#events?.gone(nodeId);
  }

  /** The process is gone, and with it all lines. */
  hangUp(): void {
    this.#events = null;
    for (const nodeId of [...this.#lines.keys()]) this.cut(nodeId);
  }

  delay(): Promise<void> {
    return this.#time.sleep(1 + this.#dice.unit() * this.#manners().latencyMsMax);
  }

  nodes(): readonly ConnectedNode[] {
    return [...this.#lines.values()].map(({ node, connection }) => ({
      id: node.id,
      address: node.address,
      offer: node.offer.offer,
      freeSlots: 1,
      busyChats: 0,
      draining: false,
      leases: connection.leases,
      lastHeardMs: this.#time.nowMs,
    }));
  }

  async runLease(
    grant: LeaseGrant,
    from: number,
    inputs: AsyncIterable<RowInput>,
    sink: RowSink,
    signal: AbortSignal,
  ): Promise<RowsEnd> {
    const line = this.#lines.get(grant.nodeId);
    if (line === undefined) return { end: 'cut', message: 'the node is not connected to this process' };
    await this.delay();
    const working = line.node.work({ grant, from, inputs, sink, signal, line: line.connection, link: this });
    return Promise.race([working, this.#silence(line.node)]);
  }

  /** Resolves when the node has given no row for as long as a stream may be silent. */
  async #silence(node: LinkedNode): Promise<RowsEnd> {
    for (let seen = -1; seen !== node.signs;) {
      seen = node.signs;
      await this.#time.sleep(SILENCE_MS);
    }
    return { end: 'cut', message: `no row came for ${SILENCE_MS} ms` };
  }

  async audit(
    nodeId: string,
    _request: unknown,
    rows: AuditRows,
  ): Promise<{ readonly scores: readonly RowScore[] } | Extract<AuditFromNode, { type: 'refused' | 'error' }>> {
    const line = this.#lines.get(nodeId);
    await this.delay();
    if (line?.connection.isUp !== true) return { type: 'error', code: 'GONE', message: 'the auditor is not connected' };
    const answer = await line.node.audit(rows);
    await this.delay();
    if (answer === null) return { type: 'refused', code: 'BUSY', message: 'the auditor has no time' };
    return line.connection.isUp ? answer : { type: 'error', code: 'GONE', message: 'the auditor went away' };
  }

  tell(nodeId: string, message: CoordinatorMessage): boolean {
    const line = this.#lines.get(nodeId);
    if (line === undefined) return false;
    if (this.#keepsBack(message)) return true;
    const { lost, repeated, latencyMsMax } = this.#manners();
    if (this.#dice.isHit(lost)) return true;
    for (let copy = this.#dice.isHit(repeated) ? 2 : 1; copy > 0; copy -= 1) {
      this.#time.after(1 + this.#dice.unit() * latencyMsMax * copy, () => {
        if (line.connection.isUp) line.node.hear(message, this);
      });
    }
    return true;
  }

  addresses(): readonly string[] {
    return [];
  }
  peerId(): string {
    return 'coordinator';
  }
  // oxlint-disable-next-line require-yield -- the port is a generator, and this one refuses
  async *runStream(): AsyncIterable<StreamEvent> {
    throw new Error('the simulated market has the batch road only');
  }
  async close(): Promise<void> {
    this.hangUp();
    await Promise.resolve();
  }
}
