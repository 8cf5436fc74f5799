import { shardOf, type Demand, type Placement, type Rates } from '@freehold/domain';
import { LEASE_MS } from '@freehold/protocol';
import { demandOf } from './ask-of.ts';
import { ClearedPrices } from './cleared-prices.ts';
import { toHex } from './hex.ts';
import { KeptFleet } from './kept-fleet.ts';
import type { GrantedLease, LeaseStore, LeaseWish } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import type { HeldShard } from './ports/shards.ts';
import type { Entropy, MonotonicClock } from './ports/surroundings.ts';

/** Jobs and returned tasks looked at in one decision: bounds the snapshot, the rest waits for the next one. */
export const DEMAND_JOBS_MAX = 64;
const DEMAND_QUEUED_MAX = 128;
/** Leases of one commit: beyond this a statement gains nothing by being longer. */
const BATCH_MAX = 1_000;
/** One batch is decided while the one before is written. */
const BATCHES_IN_FLIGHT_MAX = 2;
const NONCE_BYTES = 16;

export interface PlaceTasksPorts {
  readonly leases: Pick<LeaseStore, 'demand' | 'grant' | 'nodeRecords' | 'movedNodes'>;
  readonly link: Pick<ProviderLink, 'nodes'>;
  readonly entropy: Entropy;
  readonly clock: MonotonicClock;
  readonly resting: (nodeId: string) => boolean;
  readonly measured: (nodeId: string, digest: string) => number | undefined;
  /** Whether this process can take on more leases now. */
  readonly hasRoom: () => boolean;
  readonly granted: (lease: GrantedLease) => void;
  readonly report: (what: string, error: unknown) => void;
}

interface Batch {
  readonly placements: readonly Placement[];
  /** What each is charged at, in the same order. */
  readonly rates: readonly Rates[];
}

/**
 * Snapshot → decide → compare-and-set, for the nodes of the shards that this process holds. The nodes are kept in an index,
 * and the next batch is decided while one is written; what was not written as decided is undone, and decided anew.
 */
export class TaskPlacement {
  readonly #ports: PlaceTasksPorts;
  readonly #fleet: KeptFleet;
  readonly #prices: ClearedPrices;
  readonly #inFlight = new Set<Batch>();
  readonly #commits = new Set<Promise<void>>();
  #shards: readonly HeldShard[] = [];
  #shardCount = 1;
  #deciding: Promise<void> | null = null;
  #decideAgain = false;
  #closed = false;

  constructor(ports: PlaceTasksPorts) {
    this.#ports = ports;
    this.#fleet = new KeptFleet(ports);
    this.#prices = new ClearedPrices(ports.clock);
  }

  /** The shards held from now on, of so many in all. */
  hold(shards: readonly HeldShard[], count: number): void {
    this.#shards = shards;
    this.#shardCount = count;
    this.wake();
  }

  readonly owns = (nodeId: string): boolean => {
    const own = shardOf(nodeId, this.#shardCount);
    return this.#shards.some(({ no }) => no === own);
  };

  /** Something happened to a node. */
  touch(nodeId: string): void {
    this.#fleet.touch(nodeId);
  }

  /** Asks for a decision soon. Many wakes make one. */
  wake(): void {
    if (this.#closed) return;
    if (this.#deciding !== null || this.#inFlight.size >= BATCHES_IN_FLIGHT_MAX) {
      this.#decideAgain = true;
      return;
    }
    this.#decideAgain = false;
    this.#deciding = this.#decide()
      .catch((error: unknown) => this.#ports.report('placing', error))
      .finally(() => {
        this.#deciding = null;
        if (this.#decideAgain) this.wake();
      });
  }

  /** Waits until nothing is being decided or written. */
  async settled(): Promise<void> {
    while (this.#deciding !== null || this.#commits.size > 0) await Promise.all([this.#deciding, ...this.#commits]);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.settled();
  }

  async #decide(): Promise<void> {
    const shards = this.#shards;
    if (shards.length === 0 || !this.#ports.hasRoom()) return;
    // Before the question: what is written while it is answered may be missing from the answer.
    const underWay = [...this.#inFlight].flatMap(({ placements }) => placements);
    const open = await this.#ports.leases.demand(DEMAND_JOBS_MAX, DEMAND_QUEUED_MAX);
    if (open.length === 0) return;
    await this.#fleet.refresh(this.owns);
    const demands = withoutUnderWay(open.map(demandOf), underWay);
    const placements = this.#fleet.place(demands, BATCH_MAX);
    if (placements.length === 0) return;
    if (placements.length >= BATCH_MAX) this.#decideAgain = true;
    const rates = this.#prices.ratesFor(placements, demands, () => this.#fleet.candidates());
    const batch = { placements, rates };
    this.#inFlight.add(batch);
    const commit = this.#commit(batch, shards).finally(() => {
      this.#inFlight.delete(batch);
      this.#commits.delete(commit);
      if (this.#decideAgain) this.wake();
    });
    this.#commits.add(commit);
  }

  async #commit({ placements, rates }: Batch, shards: readonly HeldShard[]): Promise<void> {
    try {
      const wishes = placements.map((placement, i) => this.#wishOf(placement, rates[i] ?? placement.model.rates));
      const granted = await this.#ports.leases.grant(wishes, LEASE_MS, shards);
      const rows = new Set(granted.map(keyOf));
      this.#fleet.settle(placements, (placement) => rows.has(keyOf(placement)));
      // Nothing at all is no race lost: the shards are another's, or the jobs are over. The next tick looks again.
      if (granted.length > 0 && granted.length < placements.length) this.#decideAgain = true;
      for (const lease of granted) this.#ports.granted(lease);
    } catch (error) {
      this.#fleet.settle(placements, () => false);
      this.#ports.report('writing leases', error);
    }
  }

  #wishOf({ jobId, taskId, epoch, rowFrom, rowTo, nodeId, model }: Placement, rates: Rates): LeaseWish {
    return {
      jobId,
      taskId,
      epoch,
      rowFrom,
      rowTo,
      nodeId,
      model: model.name,
      digest: model.digest,
      engineClass: model.engineClass,
      rates,
      nonce: toHex(this.#ports.entropy.bytes(NONCE_BYTES)),
    };
  }
}

/** The demand as it will be when everything under way is written. */
export function withoutUnderWay(demands: readonly Demand[], underWay: readonly Placement[]): readonly Demand[] {
  if (underWay.length === 0) return demands;
  return demands.flatMap((demand) => {
    const own = underWay.filter(({ jobId }) => jobId === demand.ask.jobId);
    if (own.length === 0) return [demand];
    if (demand.isRun === true) return [];
    const nextRow = own.reduce((most, one) => (one.taskId === null ? Math.max(most, one.rowTo) : most), demand.nextRow);
    const taken = new Set(own.map(({ taskId }) => taskId));
    return [{ ...demand, nextRow, queued: demand.queued.filter(({ taskId }) => !taken.has(taskId)) }];
  });
}

/** Rows of a job are leased once at a time: that names a lease before it has an id. */
function keyOf({ jobId, rowFrom }: Pick<Placement, 'jobId' | 'rowFrom'>): string {
  return `${jobId} ${rowFrom}`;
}
