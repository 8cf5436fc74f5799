import type {
  AuditFromNode,
  CoordinatorMessage,
  HeldLease,
  LeaseRef,
  Offer,
  RowScore,
  SignedOffer,
  Work,
  WorkOutput,
} from '@freehold/protocol';
import type { Rates } from '@freehold/domain';

/** A node as this process sees it right now. Not the truth, but what the stream road picks from. */
export interface ConnectedNode {
  readonly id: string;
  readonly address: string;
  readonly offer: Offer;
  readonly freeSlots: number;
  readonly busyChats: number;
  readonly draining: boolean;
  /** Leases on the batch road that the node named in its last heartbeat. */
  readonly leases: readonly HeldLease[];
  /** performance.now() of the last frame. */
  readonly lastHeardMs: number;
}

/** What became of the nodes of this process since a reader's mark. */
export interface NodeChanges {
  /** To ask with the next time. */
  readonly mark: number;
  /** Nodes that came, went, or said something else of themselves, as they stand; null: gone. No map: all are to be looked at. */
  readonly nodes: ReadonlyMap<string, ConnectedNode | null> | null;
}

export interface LeaseGrant extends LeaseRef {
  readonly nodeId: string;
  readonly nonce: string;
  readonly model: string;
  readonly digest: string;
  readonly engineClass: string;
  readonly rates: Rates;
  readonly rows: number;
}

export interface RowInput {
  readonly index: number;
  readonly rowNo: number;
  readonly work: Work;
}

export interface SignedCheckpoint {
  readonly n: number;
  readonly root: string;
  readonly signature: string;
  readonly last: boolean;
}

/** Where the rows of a lease go. Each call resolves when what it got is durable; only then is the node told. */
export interface RowSink {
  /** Results in row order without gaps, as many as had arrived. */
  results(batch: readonly { readonly index: number; readonly output: WorkOutput }[]): Promise<void>;
  /** `false` ends the stream: the lease is not this node's any more, nothing more of it is wanted now, or the checkpoint is forged. */
  checkpoint(checkpoint: SignedCheckpoint): Promise<boolean>;
}

export type RowsEnd =
  | { readonly end: 'committed' }
  | { readonly end: 'refused'; readonly code: string; readonly message: string }
  | { readonly end: 'yielded' }
  /** The engine broke or the node said something it may not say. */
  | { readonly end: 'failed'; readonly code: string; readonly message: string }
  /** The stream broke. The node may still work and come back: only the lease's clock decides. */
  | { readonly end: 'cut'; readonly message: string };

export type StreamEvent =
  | { readonly type: 'delta'; readonly text: string; readonly tokens: readonly number[] }
  | { readonly type: 'done'; readonly output: WorkOutput; readonly root: string; readonly signature: string };

/** A request of the stream road did not get its answer. `retry` says that another node may be tried: nothing was sent to the client yet. */
export class StreamRefused extends Error {
  readonly code: string;
  readonly retry: boolean;
  constructor(code: string, message: string, retry: boolean) {
    super(message);
    this.name = 'StreamRefused';
    this.code = code;
    this.retry = retry;
  }
}

/** An offer that nobody may make: the node's to mend. Whatever else fails at a hello or a renewal is our own trouble. */
export class OfferRefused extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'OfferRefused';
  }
}

/** A newer offer of its node came first: nothing is wrong with this one, and its node may come again. */
export class OfferOvertaken extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'OfferOvertaken';
  }
}

export interface LinkEvents {
  /** A hello whose offer's signature, address and expiry hold. Returns the leases that are still the node's. */
  hello(
    node: SignedOffer,
    held: readonly HeldLease[],
    vouchers: readonly { bookEpoch: string; total: string }[],
  ): Promise<readonly LeaseRef[]>;
  /** A connected node says its offer anew; its signature, address and expiry hold. */
  renewed(node: SignedOffer): Promise<void>;
  heartbeat(nodeId: string, leases: readonly HeldLease[]): void;
  refuse(nodeId: string, lease: LeaseRef, code: string, message: string): Promise<void>;
  yield(nodeId: string, lease: LeaseRef): Promise<void>;
  /** The node has stored the voucher of this task. */
  kept(nodeId: string, task: string): Promise<void>;
  gone(nodeId: string): void;
}

/** The coordinator's end of all nodes' connections. Nodes dial; this process only answers and opens streams on their connections. */
export abstract class ProviderLink {
  abstract listen(events: LinkEvents): Promise<void>;
  abstract addresses(): readonly string[];
  abstract peerId(): string;
  abstract nodes(): readonly ConnectedNode[];
  /**
   * Whose offer, connection or will to drain changed since a mark; null: asked for the first time. What changes with every heartbeat
   * (slots, leases) is no change here. A link that remembers none has all of its nodes looked at.
   */
  changes(_since: number | null): NodeChanges {
    return { mark: 0, nodes: null };
  }
  /** Streams the inputs of a granted lease to its node and the results into the sink, until commit or break. */
  abstract runLease(
    grant: LeaseGrant,
    from: number,
    inputs: AsyncIterable<RowInput>,
    sink: RowSink,
    signal: AbortSignal,
  ): Promise<RowsEnd>;
  /** @throws {StreamRefused} */
  abstract runStream(grant: LeaseGrant, work: Work, signal: AbortSignal): AsyncIterable<StreamEvent>;
  /** Asks another node to run committed rows again. */
  abstract audit(
    nodeId: string,
    request: { id: string; model: string; digest: string },
    rows: readonly { rowNo: number; work: Work; committed: WorkOutput }[],
    signal: AbortSignal,
  ): Promise<{ scores: readonly RowScore[] } | Extract<AuditFromNode, { type: 'refused' | 'error' }>>;
  /** False when it is not sent: the node is not connected to this process, does not know the word, or it is too large for a frame. */
  abstract tell(nodeId: string, message: CoordinatorMessage): boolean;
  abstract close(): Promise<void>;
}
