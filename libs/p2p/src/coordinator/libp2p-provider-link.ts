import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import {
  NodeChangeLog,
  ProviderLink,
  StreamRefused,
  type ConnectedNode,
  type LeaseGrant,
  type LinkEvents,
  type NodeChanges,
  type RowInput,
  type RowsEnd,
  type RowSink,
  type StreamEvent,
} from '@freehold/market';
import {
  ABOUT_PROTOCOL,
  CONTROL_FRAME_BYTES_MAX,
  CONTROL_PROTOCOL,
  COORDINATOR_PROCESSES_MAX,
  LEASE_MS,
  OBJECT_PROTOCOL,
  isKnownTo,
  PROTOCOL_VERSION,
  type CoordinatorAbout,
  type CoordinatorMessage,
  type LeaseRef,
  type Work,
} from '@freehold/protocol';
import { Channel } from '../channel.ts';
import { createHost } from '../host.ts';
import { identityOf } from '../identity.ts';
import { ControlDoor, type Household } from './control-door.ts';
import { LINK_LIMITS, type LinkLimits } from './limits.ts';
import type { LinkNote, ProcessRef, ProviderLinkOptions } from './options.ts';
import { runAudit, type AuditAnswer, type AuditRow } from './run-audit.ts';
import { LeaseStream } from './run-lease.ts';
import { ObjectDoor } from './object-door.ts';
import type { NodeSession } from './session.ts';

/** A connection that never says hello holds a socket; one peer needs one, and a second while it changes networks. */
const CONNECTIONS_PER_PEER_MAX = 2;
/** Objects that one node carries at a time: a checkpoint up while the next input comes down, and adapters. */
const OBJECT_STREAMS_MAX = 6;
/** How long a lease waits for a node that is just saying hello. */
const ARRIVAL_MS = 3_000;

/** The coordinator's end of all nodes' connections, over libp2p. */
export class Libp2pProviderLink extends ProviderLink {
  readonly #options: ProviderLinkOptions;
  readonly #limits: LinkLimits;
  readonly #peerId: string;
  readonly #sessions = new Map<string, NodeSession>();
  readonly #changes = new NodeChangeLog();
  readonly #arrivals = new Map<string, Promise<unknown>>();
  #host: Libp2p | null = null;
  #events: LinkEvents | null = null;

  constructor(options: ProviderLinkOptions) {
    super();
    this.#options = options;
    this.#limits = { ...LINK_LIMITS, ...options.limits };
    this.#peerId = identityOf(options.privateKeyHex).peerId;
  }

  async listen(events: LinkEvents): Promise<void> {
    if (this.#host !== null) throw new Error('This link listens already.');
    this.#events = events;
    const { privateKeyHex, listen, announce } = this.#options;
    const host = await createHost({ privateKeyHex, listen, announce: announce ?? [], limits: this.#limits.host });
    this.#host = host;
    const door = new ControlDoor(this.#household(events));
    host.addEventListener('connection:open', ({ detail }) => this.#watch(detail));
    await host.handle(ABOUT_PROTOCOL, (stream, connection) => void door.introduce(stream, connection), {
      maxInboundStreams: 2,
    });
    await host.handle(CONTROL_PROTOCOL, (stream, connection) => void door.serve(stream, connection), {
      maxInboundStreams: 2,
    });
    await this.#openObjectDoor(host);
  }

  async #openObjectDoor(host: Libp2p): Promise<void> {
    if (this.#options.objects === undefined) return;
    const door = new ObjectDoor(this.#options.objects, this.#limits);
    const serve = async (stream: Stream, connection: Connection): Promise<void> => {
      const peer = connection.remotePeer.toString();
      if (!this.#sessions.has(peer)) return stream.abort(new Error('objects come after the welcome'));
      const fault = await door.serve(stream, connection);
      if (fault !== null) this.#note({ event: 'failed', peer, ...fault });
    };
    await host.handle(OBJECT_PROTOCOL, (stream, connection) => void serve(stream, connection), {
      maxInboundStreams: OBJECT_STREAMS_MAX,
    });
  }

  addresses(): readonly string[] {
    return (this.#host?.getMultiaddrs() ?? []).map(String);
  }

  peerId(): string {
    return this.#peerId;
  }

  nodes(): readonly ConnectedNode[] {
    return [...this.#sessions.values()].map((session) => session.view());
  }

  override changes(since: number | null): NodeChanges {
    return this.#changes.since(since, (id) => this.#sessions.get(id)?.view());
  }

  async runLease(
    grant: LeaseGrant,
    from: number,
    inputs: AsyncIterable<RowInput>,
    sink: RowSink,
    signal: AbortSignal,
  ): Promise<RowsEnd> {
    const session = await this.#session(grant.nodeId);
    if (session === null) return { end: 'cut', message: 'the node is not connected to this process' };
    return await LeaseStream.run(session.connection, grant, from, inputs, sink, signal, this.#limits, LEASE_MS);
  }

  async *runStream(grant: LeaseGrant, work: Work, signal: AbortSignal): AsyncGenerator<StreamEvent> {
    const session = this.#sessions.get(grant.nodeId);
    if (session === undefined) throw new StreamRefused('NODE_GONE', 'The node is not connected to this process.', true);
    yield* session.chats.run(grant, work, signal);
  }

  async audit(
    nodeId: string,
    request: { id: string; model: string; digest: string },
    rows: readonly AuditRow[],
    signal: AbortSignal,
  ): Promise<AuditAnswer> {
    const session = this.#sessions.get(nodeId);
    if (session === undefined)
      return { type: 'error', code: 'NODE_GONE', message: 'The auditor is not connected to this process.' };
    return await runAudit(session.connection, request, rows, signal, this.#limits);
  }

  tell(nodeId: string, message: CoordinatorMessage): boolean {
    const session = this.#sessions.get(nodeId);
    if (session === undefined || !session.control.frames.open) return false;
    if (!isKnownTo(session.version, message)) return false;
    if (session.control.frames.unsentBytes > this.#limits.controlBacklogBytesMax) {
      session.connection.abort(new Error('the node does not read its control stream'));
      return false;
    }
    const frame = Channel.encode(message);
    const failed = (error: unknown): void =>
      this.#note({
        event: 'failed',
        peer: nodeId,
        code: 'TELL',
        message: error instanceof Error ? error.message : String(error),
      });
    if (frame.length > CONTROL_FRAME_BYTES_MAX) {
      failed(
        `A message of kind ${message.type} has ${frame.length} bytes, and a control frame ${CONTROL_FRAME_BYTES_MAX} at most: it is not sent.`,
      );
      return false;
    }
    if (message.type === 'accepted') session.due.told(String(message.receipt['task']));
    session.control.frames.write(frame).catch(failed);
    return true;
  }

  async close(): Promise<void> {
    const farewells = [...this.#sessions.values()].map(async (session) => {
      const goodbye: CoordinatorMessage = {
        type: 'goodbye',
        code: 'CLOSING',
        message: 'This process is going away; it or another one will be back.',
        retryAfterMs: 250,
      };
      // Whoever cannot be told finds out by the closed connection.
      await session.control.send(goodbye).catch(() => undefined);
    });
    await Promise.all(farewells);
    const host = this.#host;
    this.#host = null;
    await host?.stop();
  }

  /** The session of a node, also of one whose hello is being answered at this moment. */
  async #session(nodeId: string): Promise<NodeSession | null> {
    const arrival = this.#arrivals.get(nodeId);
    if (!this.#sessions.has(nodeId) && arrival !== undefined) {
      await Promise.race([arrival, new Promise((resolve) => setTimeout(resolve, ARRIVAL_MS).unref())]);
    }
    return this.#sessions.get(nodeId) ?? null;
  }

  #household(events: LinkEvents): Household {
    return {
      limits: this.#limits,
      signatures: this.#options.signatures,
      nowS: this.#options.nowS ?? (() => Math.floor(Date.now() / 1_000)),
      note: (note) => this.#note(note),
      about: () => this.#about(),
      welcome: (resumed) => this.#welcome(resumed),
      events: () => events,
      arriving: (peerId, arrival) => this.#expect(peerId, arrival),
      join: (session) => this.#join(session),
      changed: ({ id }) => this.#changes.note(id),
      leave: (session) => this.#leave(session),
    };
  }

  #expect(peerId: string, arrival: Promise<unknown>): void {
    const settled = arrival.then(
      () => undefined,
      () => undefined,
    );
    this.#arrivals.set(peerId, settled);
    void settled.then(() => {
      if (this.#arrivals.get(peerId) === settled) this.#arrivals.delete(peerId);
    });
  }

  #about(): CoordinatorAbout {
    const { coordinator, delegate, chainId, escrow } = this.#options;
    return { version: PROTOCOL_VERSION, coordinator, delegate, chainId, escrow };
  }

  #welcome(resumed: readonly LeaseRef[]): Extract<CoordinatorMessage, { type: 'welcome' }> {
    const { coordinator, role, delegate, chainId, escrow, processes } = this.#options;
    const own: ProcessRef = { peer: this.#peerId, addresses: this.addresses().slice(0, 8), role };
    const others = (processes?.() ?? []).filter((process) => process.peer !== this.#peerId);
    return {
      type: 'welcome',
      version: PROTOCOL_VERSION,
      coordinator,
      process: role,
      delegate,
      chainId,
      escrow,
      processes: [own, ...others].slice(0, COORDINATOR_PROCESSES_MAX),
      resumed: resumed.map(({ task, epoch }) => ({ task, epoch })),
    };
  }

  #join(session: NodeSession): void {
    const before = this.#sessions.get(session.id);
    this.#sessions.set(session.id, session);
    this.#changes.note(session.id);
    if (before !== undefined) this.#replace(before, session);
    this.#note({
      event: 'joined',
      peer: session.id,
      code: 'JOINED',
      message: `${session.offer.engines.length} engines`,
    });
  }

  /** A second hello replaces the first: leases on the same connection go on, an older connection is dropped. */
  #replace(before: NodeSession, after: NodeSession): void {
    before.ended = true;
    before.chats.close();
    before.control.frames.abort(new Error('replaced by a newer hello'));
    if (before.connection !== after.connection) before.connection.abort(new Error('replaced by a newer connection'));
  }

  #leave(session: NodeSession): void {
    session.chats.close();
    if (this.#sessions.get(session.id) !== session) return;
    this.#sessions.delete(session.id);
    this.#changes.note(session.id);
    // Without its control stream a node counts as gone, whatever else it has open.
    session.connection.abort(new Error('the control stream ended'));
    this.#events?.gone(session.id);
    this.#note({ event: 'left', peer: session.id, code: 'LEFT', message: 'the control stream ended' });
  }

  /** A connection that says no hello in time is closed, and forgotten together with its entry in the peer store. */
  #watch(connection: Connection): void {
    const peer = connection.remotePeer;
    const connections = this.#host?.getConnections(peer) ?? [];
    if (connections.length > CONNECTIONS_PER_PEER_MAX) connections[0]?.abort(new Error('one connection per node'));
    const timer = setTimeout(() => {
      if (this.#sessions.get(peer.toString())?.connection === connection) return;
      this.#note({
        event: 'cut-off',
        peer: peer.toString(),
        code: 'NO_HELLO',
        message: `No hello came within ${this.#limits.helloMs} ms.`,
      });
      connection.abort(new Error('no hello'));
    }, this.#limits.helloMs * 1.5);
    timer.unref();
    connection.addEventListener('close', () => {
      clearTimeout(timer);
      if ((this.#host?.getConnections(peer).length ?? 0) > 1) return;
      this.#host?.peerStore.delete(peer).catch((error: unknown) => {
        this.#note({ event: 'failed', peer: peer.toString(), code: 'PEER_STORE', message: String(error) });
      });
    });
  }

  #note(note: LinkNote): void {
    this.#options.note?.(note);
  }
}
