import { ENGINE_CAPABILITIES, reputationOf, unitsFromJson, type Candidate } from '@freehold/domain';
import type { Offer } from '@freehold/protocol';
import type { LeaseStore, NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';

/** Finer differences are noise of the measurement; and nodes that are alike are decided about as one. */
const REPUTATION_STEPS = 1_000;
const SPEED_DIGITS = 2;

type Measured = (nodeId: string, digest: string) => number | undefined;

/** Connected nodes as the placement sees them, read anew; without those that the market does not know yet. */
export async function candidatesOf(
  leases: Pick<LeaseStore, 'nodeRecords'>,
  nodes: readonly ConnectedNode[],
): Promise<readonly Candidate[]> {
  const records = await leases.nodeRecords(nodes.map(({ id }) => id));
  return nodes.flatMap((node) => {
    const record = records.get(node.id);
    return record === undefined ? [] : [candidateOf(node, record)];
  });
}

/** What an offer lists of GPUs. Nobody takes parts of them from a node yet: its engines hold them. */
export function gpusOf({ gpus }: Pick<Offer, 'gpus'>): Candidate['gpus'] {
  return gpus.map(({ model, vramMib, milli }) => ({ model, vramMib, milli, freeMilli: milli }));
}

/** A connected node and what the market remembers of it, as the placement sees them. */
export function candidateOf(
  node: Pick<ConnectedNode, 'id' | 'offer' | 'draining'>,
  record: NodeRecord,
  measured: Measured = () => undefined,
): Candidate {
  return {
    nodeId: node.id,
    region: node.offer.region,
    pools: node.offer.pools,
    gpus: gpusOf(node.offer),
    cpuFreeMilli: node.offer.cpuMilli,
    memoryFreeMib: node.offer.memoryMib,
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
      engine.models.map((model) => ({
        name: model.name,
        digest: model.digest,
        engineClass: engine.class,
        loaded: model.loaded,
        rates: unitsFromJson(model.rates),
        rowsPerSecond: Number(
          (measured(node.id, model.digest) ?? record.speed[model.digest] ?? model.rowsPerSecond).toPrecision(
            SPEED_DIGITS,
          ),
        ),
        capabilities: ENGINE_CAPABILITIES.filter((capability) => model.caps[capability]),
      })),
    ),
  };
}
