import {
  ANYWHERE,
  ENGINE_CAPABILITIES,
  placeTasks,
  reputationOf,
  unitsFromJson,
  type Ask,
  type Candidate,
  type Demand,
} from '@freehold/domain';
import type { LeaseStore, GrantedLease, NodeRecord, OpenDemand } from './ports/lease-store.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';
import type { Entropy } from './ports/surroundings.ts';
import { LEASE_MS } from '@freehold/protocol';
import { toHex } from './hex.ts';

/** Jobs and returned tasks looked at in one decision: bounds the snapshot, the rest waits for the next one. */
export const DEMAND_JOBS_MAX = 64;
const DEMAND_QUEUED_MAX = 128;
const NONCE_BYTES = 16;

export interface PlaceTasksPorts {
  readonly leases: LeaseStore;
  readonly link: ProviderLink;
  readonly entropy: Entropy;
  /** Nodes that refused or broke a moment ago, left alone for now. */
  readonly resting: (nodeId: string) => boolean;
  /** Rows per second measured by this process, when there is a measurement. */
  readonly measured: (nodeId: string, digest: string) => number | undefined;
}

/** Snapshot → decide → compare-and-set. Returns the leases that were granted; whoever called dispatches them. */
export async function placeOpenTasks(ports: PlaceTasksPorts): Promise<readonly GrantedLease[]> {
  const nodes = ports.link.nodes().filter((node) => !ports.resting(node.id));
  if (nodes.length === 0) return [];
  const demand = await ports.leases.demand(DEMAND_JOBS_MAX, DEMAND_QUEUED_MAX);
  if (demand.length === 0) return [];
  const candidates = await candidatesOf(ports.leases, nodes, ports.measured);
  const wishes = placeTasks(demand.map(demandOf), candidates).map((placement) => ({
    jobId: placement.jobId,
    taskId: placement.taskId,
    epoch: placement.epoch,
    rowFrom: placement.rowFrom,
    rowTo: placement.rowTo,
    nodeId: placement.nodeId,
    model: placement.model.name,
    digest: placement.model.digest,
    engineClass: placement.model.engineClass,
    rates: placement.model.rates,
    nonce: toHex(ports.entropy.bytes(NONCE_BYTES)),
  }));
  return wishes.length === 0 ? [] : ports.leases.grant(wishes, LEASE_MS);
}

/** Connected nodes and what the market remembers of them, as the placement sees them; without those it does not know yet. */
export async function candidatesOf(
  leases: LeaseStore,
  nodes: readonly ConnectedNode[],
  measured: PlaceTasksPorts['measured'] = () => undefined,
): Promise<readonly Candidate[]> {
  const records = await leases.nodeRecords(nodes.map(({ id }) => id));
  return nodes.flatMap((node) => {
    const record = records.get(node.id);
    return record === undefined ? [] : [candidateOf(node, record, measured)];
  });
}

function candidateOf(node: ConnectedNode, record: NodeRecord, measured: PlaceTasksPorts['measured']): Candidate {
  return {
    nodeId: node.id,
    region: node.offer.region,
    pools: node.offer.pools,
    // Nobody takes parts of a GPU from a node yet: its engines hold them.
    gpus: node.offer.gpus.map(({ model, vramMib, milli }) => ({ model, vramMib, milli, freeMilli: milli })),
    cpuFreeMilli: node.offer.cpuMilli,
    memoryFreeMib: node.offer.memoryMib,
    isolation: node.offer.isolation,
    gpuRates: {},
    reputation: reputationOf(record),
    draining: node.draining,
    benchedForMs: record.benchedForMs,
    benchedWhy: record.benchedWhy,
    rowsAccepted: record.rowsAccepted,
    leasesActive: record.leasesInFlight,
    rowsUnaccepted: record.rowsInFlight,
    models: node.offer.engines.flatMap((engine) =>
      engine.models.map((model) => ({
        name: model.name,
        digest: model.digest,
        engineClass: engine.class,
        loaded: model.loaded,
        rates: unitsFromJson(model.rates),
        rowsPerSecond: measured(node.id, model.digest) ?? record.speed[model.digest] ?? model.rowsPerSecond,
        capabilities: ENGINE_CAPABILITIES.filter((capability) => model.caps[capability]),
      })),
    ),
  };
}

export function demandOf(open: OpenDemand): Demand {
  return {
    ask: askOf(open),
    ageMs: open.ageMs,
    nextRow: open.nextRow,
    rowCount: open.rowCount,
    isRun: open.kind === 'fine-tune',
    queued: open.queued,
  };
}

/** What a job asks of a node, from what the market knows of it. */
export function askOf(
  job: Pick<OpenDemand, 'jobId' | 'region' | 'poolId' | 'verify' | 'rateCaps' | 'deadlineInMs' | 'wearsAdapter'> & {
    readonly model: string;
  },
): Ask {
  return {
    ...ANYWHERE,
    jobId: job.jobId,
    model: job.model,
    capabilities: job.wearsAdapter ? ['lora'] : [],
    regions: job.region === null ? [] : [job.region],
    pools: job.poolId === null ? [] : [job.poolId],
    verify: job.verify,
    rateCaps: job.rateCaps,
    deadlineInMs: job.deadlineInMs,
  };
}
