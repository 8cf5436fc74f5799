import {
  ENGINE_CAPABILITIES,
  modelRoomMib,
  reputationOf,
  shardOf,
  unitsFromJson,
  type Candidate,
} from '@freehold/domain';
import type { Offer } from '@freehold/protocol';
import { inSlices } from './in-slices.ts';
import { loadSecondsOf, memoryNeedMib, type MarketFacts, type MemoryListed } from './model-facts.ts';
import type { LeaseStore, NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';
import type { Standstill, Standstills } from './ports/standstills.ts';

/** Finer differences are noise of the measurement; and nodes that are alike are decided about as one. */
const REPUTATION_STEPS = 1_000;
const SPEED_DIGITS = 2;

export interface CandidatesPorts {
  readonly leases: Pick<LeaseStore, 'nodeRecords'>;
  readonly link: Pick<ProviderLink, 'nodes'>;
  readonly standstills: Pick<Standstills, 'shown'>;
  /** The catalogue's; absent: it lists nothing. */
  readonly listed?: MemoryListed;
}

/** The nodes of a moment, and what the schedulers showed of them then. */
export interface SeenFleet {
  readonly candidates: readonly Candidate[];
  readonly shown: readonly Standstill[];
}

/**
 * Connected nodes as the placement sees them, read anew, with what their schedulers show of them; without those that the market
 * does not know yet.
 */
export async function seenFleet({ leases, link, standstills, listed }: CandidatesPorts): Promise<SeenFleet> {
  const nodes = link.nodes();
  const facts = listed === undefined ? {} : { listed };
  const [records, shown] = await Promise.all([leases.nodeRecords(nodes.map(({ id }) => id)), standstills.shown()]);
  const rests = new Map(shown.flatMap((one) => one.rests).map(({ nodeId, why, forMs }) => [nodeId, { why, forMs }]));
  const kept = new Map(
    shown
      .flatMap((one) => one.reservations)
      .flatMap(({ jobId, nodeIds, startsInMs, expiresInMs: forMs }) =>
        nodeIds.map((id) => [id, { jobId, startsInMs, forMs }] as const),
      ),
  );
  const isFull = (id: string): boolean =>
    shown.some(({ full, shardCount }) => full.length > 0 && full.includes(shardOf(id, shardCount)));
  const candidates = await inSlices(nodes, (node): Candidate | null => {
    const { id } = node;
    const record = records.get(id);
    if (record === undefined) return null;
    const scheduler = schedulerOf(id, shown);
    const now = { rest: rests.get(id) ?? null, reserved: kept.get(id) ?? null, isSchedulerFull: isFull(id) };
    return { ...candidateOf(node, record, facts), ...now, ...(scheduler === undefined ? {} : { scheduler }) };
  });
  return { candidates: candidates.flatMap((candidate) => candidate ?? []), shown };
}

/** Which of those that show themselves places on a node; undefined: none that has work which begins on several nodes at once. */
function schedulerOf(nodeId: string, shown: readonly Standstill[]): number | undefined {
  const at = shown.findIndex(
    ({ gangShards, shardCount }) => gangShards.length > 0 && gangShards.includes(shardOf(nodeId, shardCount)),
  );
  return at < 0 ? undefined : at;
}

/** What an offer lists of GPUs. Nobody takes parts of them from a node yet: its engines hold them. */
export function gpusOf({ gpus }: Pick<Offer, 'gpus'>): Candidate['gpus'] {
  return gpus.map(({ model, vramMib, milli }) => ({ model, vramMib, milli, freeMilli: milli }));
}

/** A connected node and what the market remembers of it, as the placement sees them. */
export function candidateOf(
  node: Pick<ConnectedNode, 'id' | 'offer' | 'draining'>,
  record: NodeRecord,
  { measured, listed, loadS }: MarketFacts = {},
): Candidate {
  return {
    nodeId: node.id,
    region: node.offer.region,
    pools: node.offer.pools,
    gpus: gpusOf(node.offer),
    cpuFreeMilli: node.offer.cpuMilli,
    memoryFreeMib: node.offer.memoryMib,
    modelRoomMib: modelRoomMib(node.offer),
    isolation: node.offer.isolation,
    gpuRates: {},
    reputation: Math.round(reputationOf(record) * REPUTATION_STEPS) / REPUTATION_STEPS,
    draining: node.draining,
    benchedForMs: record.benchedForMs,
    benchedWhy: record.benchedWhy,
    rowsAccepted: record.rowsAccepted,
    leasesActive: record.leasesInFlight,
    rowsUnaccepted: record.rowsInFlight,
    models: node.offer.engines.flatMap((engine) =>
      engine.models.map((model) => {
        const speed = measured?.(node.id, model.digest) ?? record.speed[model.digest];
        const memoryMib = memoryNeedMib(model, listed);
        const loadTimeS = loadSecondsOf(model, listed, loadS?.(node.id, model.digest));
        return {
          name: model.name,
          kind: model.kind,
          digest: model.digest,
          engineClass: engine.class,
          loaded: model.loaded,
          rates: unitsFromJson(model.rates),
          rowsPerSecond: Number((speed ?? model.rowsPerSecond).toPrecision(SPEED_DIGITS)),
          isClaimed: speed === undefined,
          ...(memoryMib === undefined ? {} : { memoryMib }),
          ...(loadTimeS === undefined ? {} : { loadS: Number(loadTimeS.toPrecision(SPEED_DIGITS)) }),
          capabilities: ENGINE_CAPABILITIES.filter((capability) => model.caps[capability]),
        };
      }),
    ),
  };
}
