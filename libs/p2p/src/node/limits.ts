import { HEARTBEAT_MS } from '@freehold/protocol';
import { NODE_HOST_LIMITS, type HostLimits } from '../host.ts';

/** Every wait and size at the node's end. */
export interface NodeLinkLimits {
  readonly host: HostLimits;
  readonly heartbeatMs: number;
  /** A change of the free slots is told at once, but not more often than this. */
  readonly pulseMs: number;
  readonly dialMs: number;
  readonly welcomeMs: number;
  readonly frameMs: number;
  readonly writeMs: number;
  /** Full jitter: a wait drawn between 0 and a bound that doubles from the first to the last. */
  readonly redialFirstMs: number;
  readonly redialLastMs: number;
  /** A connection that held this long starts the bound anew. */
  readonly steadyMs: number;
  readonly chatsPerStreamMax: number;
  readonly streamsPerPeerMax: number;
  readonly coordinatorPeersMax: number;
}

export const NODE_LINK_LIMITS: NodeLinkLimits = {
  host: NODE_HOST_LIMITS,
  heartbeatMs: HEARTBEAT_MS,
  pulseMs: 100,
  dialMs: 10_000,
  welcomeMs: 20_000,
  frameMs: 30_000,
  writeMs: 15_000,
  redialFirstMs: 250,
  // A coordinator that restarts is back in seconds, and its leases wait for their nodes: jitter alone keeps 5,000 of them apart.
  redialLastMs: 5_000,
  steadyMs: 30_000,
  chatsPerStreamMax: 256,
  streamsPerPeerMax: 128,
  coordinatorPeersMax: 64,
};
