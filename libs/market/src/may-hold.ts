import { ISOLATIONS, type Isolation } from '@freehold/domain';
import { isInRegion, nodeNeedsOf, type Offer } from '@freehold/protocol';

/** Where a job's rows may be: with whoever works on them, and with whoever runs them again. */
export interface Whereabouts {
  /** As `metadata.region`; null: anywhere. */
  readonly region: string | null;
  /** At least. */
  readonly isolation: Isolation;
  /** Null: the job is of the market. */
  readonly poolId: string | null;
}

/** Of what a job asks of nodes, what keeps its rows somewhere. The rest is about doing them: an auditor needs no such GPU. */
export function whereaboutsOf(job: {
  readonly region: string | null;
  readonly poolId: string | null;
  readonly metadata: Readonly<Record<string, string>>;
}): Whereabouts {
  const { region, poolId, metadata } = job;
  return { region, poolId, isolation: nodeNeedsOf(metadata).isolation };
}

/** Whether a node is where the rows may be, as the constraints of the placement have it. */
export function mayHold(
  { region, isolation, poolId }: Whereabouts,
  offer: Pick<Offer, 'region' | 'isolation' | 'pools'>,
): boolean {
  return (
    isInRegion(region, offer.region) &&
    ISOLATIONS.indexOf(offer.isolation) >= ISOLATIONS.indexOf(isolation) &&
    (poolId === null || offer.pools.includes(poolId))
  );
}
