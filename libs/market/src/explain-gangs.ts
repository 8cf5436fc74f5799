import { couldJoin, obstacle, type Ask, type Candidate } from '@freehold/domain';
import type { OpenDemand } from './ports/lease-store.ts';
import type { ShownReservation, Standstill } from './ports/standstills.ts';

/** Nodes that stand idle until a batch begins on all of them, or their time is up. */
export interface KeptNodes {
  /** The batch, where it is the asker's own; null: another organisation's. */
  readonly job: string | null;
  readonly nodes: readonly string[];
  /** About, by the expected ends of what runs there. */
  readonly startsInS: number;
  /** Then they are everybody's again, whatever became of it. */
  readonly expiresInS: number;
}

/** What work that begins on several nodes at once has to do with a job's waiting. */
export interface GangStanding {
  /** Nodes that are kept for this job. */
  readonly reservation?: KeptNodes;
  /** Nodes that it could use and that are kept for others. */
  readonly reservations?: readonly KeptNodes[];
}

/** @param shown What the schedulers show, and `says` in words. */
export function gangStanding(
  own: OpenDemand,
  ask: Ask,
  candidates: readonly Candidate[],
  shown: readonly Standstill[],
): GangStanding & { readonly says: string } {
  const all = shown.flatMap(({ reservations }) => reservations);
  const mine = all.find(({ jobId }) => jobId === own.jobId);
  const beside = new Set(
    candidates.filter((node) => obstacle(ask, node)?.name === 'reserved').map(({ nodeId }) => nodeId),
  );
  const others = all.filter(({ nodeIds }) => nodeIds.some((id) => beside.has(id)));
  const kept = others.map((one) => keptNodes(one, own.orgId));
  return {
    ...(mine === undefined ? {} : { reservation: keptNodes(mine, own.orgId) }),
    ...(kept.length === 0 ? {} : { reservations: kept }),
    says: [
      ...(mine === undefined ? [] : [saysKept(keptNodes(mine, own.orgId), 'for it')]),
      ...kept.map((one) => saysKept(one, one.job === null ? "for another's batch" : `for ${one.job}`)),
    ].join(' '),
  };
}

function keptNodes({ jobId, orgId, nodeIds, startsInMs, expiresInMs }: ShownReservation, asker: string): KeptNodes {
  const [startsInS, expiresInS] = [Math.ceil(startsInMs / 1_000), Math.ceil(expiresInMs / 1_000)];
  return { job: orgId === asker ? jobId : null, nodes: nodeIds, startsInS, expiresInS };
}

function saysKept({ nodes, startsInS, expiresInS }: KeptNodes, forWhom: string): string {
  return `${nodes.length} nodes are kept ${forWhom}, which begins on them in about ${startsInS} s; in ${expiresInS} s at the latest they are free for others.`;
}

/** What a gang is explained over: it begins on the nodes of one scheduler, of the one that has most of those that could be its members. */
export function ofOneScheduler(ask: Ask, candidates: readonly Candidate[]): readonly Candidate[] {
  const able = new Map<Candidate['scheduler'], number>();
  for (const node of candidates)
    if (couldJoin(ask, { ...node, reserved: null })) able.set(node.scheduler, (able.get(node.scheduler) ?? 0) + 1);
  const [most] = [...able].sort(([a, some], [b, others]) => others - some || (a ?? NOBODY) - (b ?? NOBODY));
  if (most === undefined) return candidates;
  return candidates.map((node) => (node.scheduler === most[0] ? node : { ...node, isElsewhere: true }));
}

/** Before all numbers. */
const NOBODY = -1;
