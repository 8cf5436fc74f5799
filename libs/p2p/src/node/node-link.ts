import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr';
import { AUDIT_PROTOCOL, ROWS_PROTOCOL, STREAM_PROTOCOL, type NodeMessage } from '@freehold/protocol';
import { createHost } from '../host.ts';
import { identityOf } from '../identity.ts';
import { bringObject, fetchObject, ObjectRefused } from './carry-object.ts';
import type { NodeDuties, Welcome } from './duties.ts';
import { NODE_LINK_LIMITS, type NodeLinkLimits } from './limits.ts';
import { ProcessLink, type ProcessNote } from './process-link.ts';
import { serveAudit, serveChats, serveRows } from './serve-streams.ts';

export interface NodeLinkOptions {
  readonly privateKeyHex: string;
  /** Multiaddrs of coordinator processes, each ending in `/p2p/<peer id>`, because the name is what the handshake proves. */
  readonly coordinators: readonly string[];
  /** Name and version, for the coordinator's logs. */
  readonly agent: string;
  readonly duties: NodeDuties;
  readonly limits?: Partial<NodeLinkLimits>;
  readonly note?: (note: ProcessNote) => void;
  /** In [0, 1), for the jitter. */
  readonly random?: () => number;
}

/** A stream may arrive a moment before the welcome that was sent ahead of it on another stream. */
const WELCOME_RACE_MS = 3_000;

/** The node's end: dials every process of its coordinators, keeps one control stream to each, serves the streams they open. */
export class NodeLink {
  readonly #options: NodeLinkOptions;
  readonly #limits: NodeLinkLimits;
  readonly #processes = new Map<string, ProcessLink>();
  #host: Libp2p | null = null;
  #closed = false;

  constructor(options: NodeLinkOptions) {
    this.#options = options;
    this.#limits = { ...NODE_LINK_LIMITS, ...options.limits };
    for (const address of options.coordinators) peerOf(address);
  }

  get peerId(): string {
    return identityOf(this.#options.privateKeyHex).peerId;
  }

  async start(): Promise<void> {
    const host = await createHost({
      privateKeyHex: this.#options.privateKeyHex,
      listen: [],
      announce: [],
      limits: this.#limits.host,
    });
    this.#host = host;
    const limits = { maxInboundStreams: this.#limits.streamsPerPeerMax };
    const serve = (serveStream: typeof serveRows) => (stream: Stream, connection: Connection) =>
      void this.#serve(serveStream, stream, connection);
    await host.handle(ROWS_PROTOCOL, serve(serveRows), limits);
    await host.handle(STREAM_PROTOCOL, serve(serveChats), limits);
    await host.handle(AUDIT_PROTOCOL, serve(serveAudit), limits);
    const byPeer = new Map<string, string[]>();
    for (const address of this.#options.coordinators)
      byPeer.set(peerOf(address), [...(byPeer.get(peerOf(address)) ?? []), address]);
    for (const [peer, addresses] of byPeer) this.#keep(peer, addresses);
  }

  /** Processes that have welcomed this node, by PeerId. */
  connected(): readonly { readonly peer: string; readonly welcome: Welcome }[] {
    return [...this.#processes.values()].flatMap(({ peer, welcome }) => (welcome === null ? [] : [{ peer, welcome }]));
  }

  /** False when that process is not connected. */
  async tell(peer: string, message: NodeMessage): Promise<boolean> {
    return (await this.#processes.get(peer)?.tell(message)) ?? false;
  }

  /** Tells every connected process, such as a new offer. */
  async tellAll(message: NodeMessage): Promise<void> {
    await Promise.all([...this.#processes.values()].map(async (process) => await process.tell(message)));
  }

  /** An object that the process of `peer` lent to this node. @throws {ObjectRefused} */
  async *fetchObject(peer: string, sha256: string): AsyncGenerator<Uint8Array, void, undefined> {
    yield* fetchObject(this.#connectionTo(peer), sha256, this.#limits);
  }

  /** @throws {ObjectRefused} */
  async bringObject(peer: string, object: Parameters<typeof bringObject>[1]): Promise<void> {
    await bringObject(this.#connectionTo(peer), object, this.#limits);
  }

  #connectionTo(peer: string): Connection {
    const connection = this.#processes.get(peer)?.connection;
    if (connection == null) throw new ObjectRefused('COORDINATOR_AWAY', 'That process is not connected now.');
    return connection;
  }

  pulseSoon(): void {
    for (const process of this.#processes.values()) process.pulseSoon();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#processes.values()].map(async (process) => await process.close()));
    await this.#host?.stop();
    this.#host = null;
  }

  #keep(peer: string, addresses: readonly string[]): void {
    const host = this.#host;
    if (host === null || this.#closed || this.#processes.size >= this.#limits.coordinatorPeersMax) return;
    const process = new ProcessLink({
      peer,
      addresses,
      host,
      agent: this.#options.agent,
      duties: this.#options.duties,
      limits: this.#limits,
      random: this.#options.random ?? Math.random,
      note: (note) => this.#options.note?.(note),
      onProcesses: (processes) => this.#learn(processes),
    });
    this.#processes.set(peer, process);
    void process.run();
  }

  /** Every process of a coordinator is in its welcome, and named when it comes later; the node keeps a control stream to each. */
  #learn(processes: Welcome['processes']): void {
    for (const { peer, addresses } of processes) {
      const named = addresses.flatMap((address) => withPeer(address, peer));
      if (named.length === 0) continue;
      const known = this.#processes.get(peer);
      if (known === undefined) this.#keep(peer, named);
      else known.readdress(named);
    }
  }

  /** Only a process that has welcomed this node may open streams. */
  async #serve(serveStream: typeof serveRows, stream: Stream, connection: Connection): Promise<void> {
    const peer = connection.remotePeer.toString();
    try {
      if (!(await this.#isWelcomed(peer))) throw new Error('streams come after the welcome');
      await serveStream(stream, peer, this.#options.duties, this.#limits);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'STREAM';
      this.#options.note?.({ event: 'failed', peer, code, message });
      stream.abort(error instanceof Error ? error : new Error(message));
    }
  }

  async #isWelcomed(peer: string): Promise<boolean> {
    const deadlineMs = performance.now() + WELCOME_RACE_MS;
    while (this.#processes.get(peer)?.welcome == null) {
      if (this.#closed || !this.#processes.has(peer) || performance.now() > deadlineMs) return false;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return true;
  }
}

/** What was given as a coordinator's address is none; the text says what one looks like. */
export class AddressError extends Error {
  override readonly name = 'AddressError';
}

/** @throws {AddressError} */
function peerOf(address: string): string {
  const peer = componentsOf(address).find(({ name }) => name === 'p2p')?.value;
  if (peer === undefined)
    throw new AddressError(
      `${address} does not say who is there: end it with /p2p/<peer id>, as the coordinator prints it.`,
    );
  try {
    return peerIdFromString(peer).toString();
  } catch (error) {
    throw new AddressError(`${address} ends in ${peer}, which is no peer id: copy the whole address.`, {
      cause: error,
    });
  }
}

function componentsOf(address: string): ReturnType<Multiaddr['getComponents']> {
  try {
    return multiaddr(address).getComponents();
  } catch (error) {
    throw new AddressError(
      `${address} is no address of a coordinator: expected /ip4/…/tcp/…/p2p/<peer id>, copied whole as the coordinator prints it.`,
      { cause: error },
    );
  }
}

/** The address with its peer at the end; none when it names another, or is none at all. */
function withPeer(address: string, peer: string): string[] {
  try {
    const parsed = multiaddr(address);
    const named = parsed.getComponents().find(({ name }) => name === 'p2p')?.value;
    if (named === undefined) return [parsed.encapsulate(`/p2p/${peer}`).toString()];
    return named === peer ? [address] : [];
  } catch {
    // A coordinator that sends something that is no address is not dialled there; its other addresses may do.
    return [];
  }
}
