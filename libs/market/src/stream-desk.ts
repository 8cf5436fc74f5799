import { reputationOf } from '@freehold/domain';
import { LEASE_MS, type HeldLease, type LeaseRef, type SignedOffer } from '@freehold/protocol';
import type { Standing } from './choose-stream-nodes.ts';
import type { LeaseStore, NodeRecord } from './ports/lease-store.ts';
import { OfferRefused, type LinkEvents, type ProviderLink } from './ports/provider-link.ts';
import type { MonotonicClock } from './ports/surroundings.ts';
import { offerFault } from './refuse-offer.ts';
import { StreamTries } from './stream-tries.ts';

/** A node that was just proven a cheat is left out of the stream road after this long at most. */
const STANDING_MS = 1_000;

const NEWCOMER_REPUTATION = reputationOf({ rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0 });

export interface StreamDeskPorts {
  readonly leases: LeaseStore;
  readonly link: ProviderLink;
  readonly clock: MonotonicClock;
  readonly report: (what: string, error: unknown) => void;
}

/** The nodes of an api process: who they are, who of them is benched, and what became of their work. Batch leases belong to the scheduler's processes. */
export class StreamDesk implements LinkEvents, Standing {
  readonly #ports: StreamDeskPorts;
  #benched: ReadonlySet<string> = new Set();
  #reputations: ReadonlyMap<string, number> = new Map();
  #speeds: ReadonlyMap<string, NodeRecord['speed']> = new Map();
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | null = null;
  readonly tries: StreamTries;

  constructor(ports: StreamDeskPorts) {
    this.#ports = ports;
    this.tries = new StreamTries(ports.clock);
  }

  async hello(node: SignedOffer, held: readonly HeldLease[]): Promise<readonly LeaseRef[]> {
    await this.renewed(node);
    // Leases granted by another process of this coordinator are the node's all the same: it must not drop them.
    const resumed = held.length === 0 ? [] : await this.#ports.leases.resume(node.offer.node, held, LEASE_MS);
    return resumed;
  }

  async renewed(node: SignedOffer): Promise<void> {
    const fault = offerFault(node.offer);
    if (fault !== null) throw new OfferRefused(fault);
    const known = await this.#ports.leases.rememberNode(node);
    // One whose next offer overtook this one on its way to another process: nothing is wrong with it.
    if (!known.accepted && known.code !== 'overtaken') throw new OfferRefused(known.why);
    this.#askedAtMs = Number.NEGATIVE_INFINITY;
  }

  heartbeat(): void {
    // Only the scheduler extends leases; what this process needs of a heartbeat (free slots) the link keeps.
  }

  async refuse(nodeId: string, lease: LeaseRef, code: string): Promise<void> {
    await this.#ports.leases.giveBack(lease, 'refuse', code, nodeId);
  }

  async yield(nodeId: string, lease: LeaseRef): Promise<void> {
    await this.#ports.leases.giveBack(lease, 'yield', 'the owner wanted the slot', nodeId);
  }

  async kept(): Promise<void> {
    // Vouchers are sent, and their keeping is noted, by the scheduler's processes.
  }

  gone(): void {
    // Requests on the broken connection end by themselves.
  }

  /** What is known of the nodes, renewed in the background; the first time it is waited for. */
  async refreshed(): Promise<void> {
    const isFirst = this.#askedAtMs === Number.NEGATIVE_INFINITY;
    if (this.#ports.clock.nowMs() - this.#askedAtMs > STANDING_MS && this.#asking === null) {
      this.#asking = this.#ask().finally(() => (this.#asking = null));
    }
    if (isFirst && this.#asking !== null) await this.#asking;
  }

  readonly isBenched = (nodeId: string): boolean => this.#benched.has(nodeId);

  /** Whom the market does not know yet has a newcomer's. */
  readonly reputation = (nodeId: string): number => this.#reputations.get(nodeId) ?? NEWCOMER_REPUTATION;

  readonly hasRun = (nodeId: string, digest: string): boolean => this.#speeds.get(nodeId)?.[digest] !== undefined;

  readonly isResting = (nodeId: string): boolean => this.tries.isResting(nodeId);

  async #ask(): Promise<void> {
    try {
      const records = await this.#ports.leases.nodeRecords(this.#ports.link.nodes().map((node) => node.id));
      this.#benched = new Set(
        [...records.values()].filter((record) => record.benchedForMs > 0).map((record) => record.nodeId),
      );
      this.#reputations = new Map([...records.values()].map((record) => [record.nodeId, reputationOf(record)]));
      this.#speeds = new Map([...records.values()].map(({ nodeId, speed }) => [nodeId, speed]));
      this.#askedAtMs = this.#ports.clock.nowMs();
    } catch (error) {
      // The last answer stands; the next request asks again.
      this.#ports.report('asking for the standing of nodes', error);
    }
  }
}
