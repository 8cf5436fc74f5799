import type {
  AuditFromCoordinator,
  AuditFromNode,
  CoordinatorAbout,
  CoordinatorMessage,
  HeldLease,
  NodeMessage,
  RowsFromCoordinator,
  RowsFromNode,
  SignedOffer,
  StreamFromCoordinator,
  StreamFromNode,
} from '@freehold/protocol';

type Heartbeat = Extract<NodeMessage, { type: 'heartbeat' }>;
export type LeaseFrame = Extract<RowsFromCoordinator, { type: 'lease' }>;
export type ChatRequest = Extract<StreamFromCoordinator, { type: 'request' }>;
export type AuditRequest = Extract<AuditFromCoordinator, { type: 'audit' }>;
export type AuditRowFrame = Extract<AuditFromCoordinator, { type: 'row' }>;
export type Welcome = Extract<CoordinatorMessage, { type: 'welcome' }>;
/** What a coordinator tells a node about its leases after the welcome. */
export type CoordinatorNews = Exclude<CoordinatorMessage, { type: 'welcome' | 'processes' | 'goodbye' }>;

export interface HelloState {
  readonly offer: SignedOffer;
  readonly leases: readonly HeldLease[];
  readonly vouchers: Extract<NodeMessage, { type: 'hello' }>['vouchers'];
  readonly draining: boolean;
}
export type PulseState = Omit<Heartbeat, 'type' | 'leases'> & { readonly leases: readonly HeldLease[] };

/** A lease's stream, opened by the coordinator. Whoever serves it reads and writes until one of them ends it. */
export interface RowsCall {
  /** PeerId of the process that opened it. */
  readonly peer: string;
  readonly lease: LeaseFrame;
  /** Null when the coordinator closed the stream. Throws when it broke. */
  receive(): Promise<Extract<RowsFromCoordinator, { type: 'input' | 'ack' }> | null>;
  /** Resolves when the frame is on its way; waits while the coordinator takes nothing. */
  send(message: RowsFromNode): Promise<void>;
  /** After the last word. */
  close(): Promise<void>;
  abort(why: string): void;
}

export type ChatAnswer =
  Extract<StreamFromNode, { type: 'delta' | 'done' | 'refused' | 'error' }> extends infer Frame
    ? Frame extends { id: number }
      ? Omit<Frame, 'id'>
      : never
    : never;

export interface ChatCall {
  readonly peer: string;
  readonly request: ChatRequest;
  /** Aborted when the coordinator gives the request up, or is gone. */
  readonly signal: AbortSignal;
  send(answer: ChatAnswer): Promise<void>;
}

export interface AuditCall {
  readonly peer: string;
  readonly request: AuditRequest;
  readonly rows: AsyncIterable<AuditRowFrame>;
  readonly signal: AbortSignal;
  send(answer: AuditFromNode): Promise<void>;
}

/** What the link asks of the node behind it. */
export interface NodeDuties {
  /** What to say to a process, signed under its coordinator's chain and contract. Throws when that is not the pinned one. */
  hello(peer: string, about: CoordinatorAbout): Promise<HelloState>;
  pulse(peer: string): PulseState;
  /** The coordinator's answer to the hello; resolves when stale leases are dropped. */
  welcomed(peer: string, welcome: Welcome): Promise<void>;
  told(peer: string, news: CoordinatorNews): Promise<void>;
  rows(call: RowsCall): Promise<void>;
  chat(call: ChatCall): Promise<void>;
  audit(call: AuditCall): Promise<void>;
}
