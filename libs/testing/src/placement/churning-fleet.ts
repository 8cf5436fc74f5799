import { ANYWHERE, placeTasks, type Demand, type Placement } from '@freehold/domain';
import { KeptFleet, NodeChangeLog, type ConnectedNode, type NodeRecord } from '@freehold/market';
import type { Offer } from '@freehold/protocol';
import { offersOf } from './memory.ts';

/** A fleet of which a node goes, and another comes, before each decision: what a decision costs then is asked by `placement-scale`. */
export class ChurningFleet {
  readonly #fleet: KeptFleet;
  /** Twice as many as are connected: who goes comes back when all others have had their turn. */
  readonly #offers: readonly Offer[];
  readonly #log = new NodeChangeLog();
  readonly #nodes = new Map<string, ConnectedNode>();
  #turn = 0;

  private constructor(connected: number) {
    this.#offers = offersOf(2 * connected);
    this.#fleet = new KeptFleet({
      leases: { nodeRecords: async (ids) => new Map(ids.map((id) => [id, recordOf(id)])) },
      link: {
        nodes: () => [...this.#nodes.values()],
        changes: (since) => this.#log.since(since, (id) => this.#nodes.get(id)),
      },
      clock: { nowMs: () => 0 },
      resting: () => false,
      measured: () => undefined,
    });
    for (const offer of this.#offers.slice(0, connected)) this.#connect(offer);
  }

  static async of(connected: number): Promise<ChurningFleet> {
    const churning = new ChurningFleet(connected);
    await churning.#fleet.refresh(() => true);
    return churning;
  }

  get size(): number {
    return this.#fleet.size;
  }

  /** A node goes, another comes, and a row is placed; it does not come about, so that the fleet stays as loaded as it is. */
  async decide(): Promise<Placement | undefined> {
    await this.#change();
    return this.#placed();
  }

  /** The same, and whether a placement that knows nothing of what was before decides alike. */
  async isDecidedAsAnew(): Promise<boolean> {
    await this.#change();
    const [anew] = placeTasks([demandOf(this.#turn)], [...this.#fleet.candidates()]);
    const kept = this.#placed();
    return anew !== undefined && kept?.nodeId === anew.nodeId && kept.rowTo === anew.rowTo;
  }

  async #change(): Promise<void> {
    const [goes, comes] = [
      this.#offers[this.#turn],
      this.#offers[(this.#turn + this.#nodes.size) % this.#offers.length],
    ];
    this.#turn = (this.#turn + 1) % this.#offers.length;
    if (goes === undefined || comes === undefined) throw new Error('a fleet of no nodes');
    this.#nodes.delete(goes.node);
    this.#log.note(goes.node);
    this.#connect(comes);
    await this.#fleet.refresh(() => true);
  }

  #connect(offer: Offer): void {
    const view = { freeSlots: 1, busyChats: 0, draining: false, leases: [], lastHeardMs: 0 };
    this.#nodes.set(offer.node, { id: offer.node, address: offer.address, offer, ...view });
    this.#log.note(offer.node);
  }

  #placed(): Placement | undefined {
    const placements = this.#fleet.place([demandOf(this.#turn)], 1);
    this.#fleet.settle(placements, () => false);
    return placements[0];
  }
}

function demandOf(turn: number): Demand {
  const rateCaps = { inputToken: 10_000_000n, outputToken: 10_000_000n };
  const ask = {
    ...ANYWHERE,
    jobId: `job-${turn}`,
    model: 'freehold-tiny',
    modelKind: 'chat' as const,
    verify: 'spot' as const,
  };
  return { ask: { ...ask, rateCaps, deadlineInMs: 3_600_000 }, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] };
}

/** Nodes of different records: none is like the one before. */
function recordOf(nodeId: string): NodeRecord {
  let no = 0;
  for (let i = 0; i < nodeId.length; i += 1) no = (31 * no + nodeId.charCodeAt(i)) % 1_009;
  return {
    ...{
      nodeId,
      payout: '',
      rowsAccepted: 1_000 + no,
      rowsAudited: 200,
      rowsBad: 0,
      leasesLost: no % 3,
      benchedForMs: 0,
    },
    ...{ benchedWhy: null, speed: {}, rowsInFlight: 0, leasesInFlight: 0 },
  };
}
