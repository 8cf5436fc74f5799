import './with-resolvers.ts';
import { noise } from '@chainsafe/libp2p-noise';
import { identify } from '@libp2p/identify';
import type { Libp2p } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';
import { keyFromHex } from './identity.ts';
import { writeTogether } from './write-together.ts';

/** Every limit that libp2p would otherwise choose for a small peer-to-peer client (5 new connections a second, 300 in all). */
export interface HostLimits {
  readonly connectionsMax: number;
  /** Connections that have not finished their handshake. */
  readonly pendingConnectionsMax: number;
  /** New connections from one IP address. Many nodes of one site share an address. */
  readonly connectionsPerSecondPerAddress: number;
  /** Streams that the other end may hold open on one connection. */
  readonly inboundStreamsMax: number;
  readonly outboundStreamsMax: number;
  readonly handshakeMs: number;
  readonly negotiationMs: number;
}

/** 5,000 nodes a process at 174 KB each is under 1 GB. */
export const COORDINATOR_HOST_LIMITS: HostLimits = {
  connectionsMax: 6_000,
  pendingConnectionsMax: 500,
  connectionsPerSecondPerAddress: 200,
  inboundStreamsMax: 16,
  outboundStreamsMax: 256,
  handshakeMs: 10_000,
  negotiationMs: 10_000,
};

/** A node only dials: 16 processes each of a few coordinators. */
export const NODE_HOST_LIMITS: HostLimits = {
  connectionsMax: 64,
  pendingConnectionsMax: 1,
  connectionsPerSecondPerAddress: 1,
  inboundStreamsMax: 256,
  outboundStreamsMax: 16,
  handshakeMs: 10_000,
  negotiationMs: 10_000,
};

/**
 * The window of one stream stays below the 4 MiB that a paused stream may buffer: at the default of 16 MiB a sender that
 * fills the window of a paused reader would make libp2p reset the stream.
 */
const STREAM_WINDOW_BYTES_MAX = 2_097_152;

/**
 * A libp2p host: TCP, noise, yamux, identify.
 *
 * Noise and not TLS: importing `@libp2p/tls` costs 0.4 s of CPU and 11 MB in every process (measured), and what TLS is
 * faster at, moving weights, does not go over these streams.
 */
export async function createHost(options: {
  readonly privateKeyHex: string;
  readonly listen: readonly string[];
  readonly announce: readonly string[];
  readonly limits: HostLimits;
}): Promise<Libp2p> {
  const { limits } = options;
  const host = await createLibp2p({
    privateKey: keyFromHex(options.privateKeyHex),
    addresses: { listen: [...options.listen], announce: [...options.announce] },
    transports: [
      tcp({
        listenOpts: { noDelay: true, keepAlive: true },
        dialOpts: { noDelay: true, keepAlive: true },
        maxConnections: limits.connectionsMax + limits.pendingConnectionsMax,
        backlog: 1_024,
      }),
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [
      yamux({
        maxInboundStreams: limits.inboundStreamsMax,
        maxOutboundStreams: limits.outboundStreamsMax,
        streamOptions: { maxStreamWindowSize: STREAM_WINDOW_BYTES_MAX },
      }),
    ],
    connectionManager: {
      maxConnections: limits.connectionsMax,
      maxIncomingPendingConnections: limits.pendingConnectionsMax,
      inboundConnectionThreshold: limits.connectionsPerSecondPerAddress,
      inboundUpgradeTimeout: limits.handshakeMs,
      inboundStreamProtocolNegotiationTimeout: limits.negotiationMs,
      outboundStreamProtocolNegotiationTimeout: limits.negotiationMs,
      reconnectRetries: 0,
    },
    // Heartbeats on the control stream say more than a ping, and earlier.
    connectionMonitor: { enabled: false },
    // Loopback and private addresses are dialled as given: coordinators inside one machine or site are ordinary.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify({ maxInboundStreams: 2, maxOutboundStreams: 2 }) },
  });
  host.addEventListener('connection:open', ({ detail }) => writeTogether(detail));
  host.addEventListener('stop', () => forgetAddressUpdate(host));
  return host;
}

/**
 * Transports that close make libp2p write its addresses down a second later, also those that its own stop closes: a timer
 * that holds the process for nobody. libp2p has a way to stop it and does not take it; there is no public one.
 */
function forgetAddressUpdate(host: Libp2p): void {
  // Private to libp2p, all of it: whatever a next version has no more is passed over.
  const { components } = host as unknown as {
    readonly components?: { readonly addressManager?: { readonly _updatePeerStoreAddresses?: { stop?: () => void } } };
  };
  components?.addressManager?._updatePeerStoreAddresses?.stop?.();
}
