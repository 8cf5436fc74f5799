import { couldJoin, obstacle, type Ask, type Candidate } from '@freehold/domain';
import type { OpenDemand } from './ports/lease-store.ts';
import type { ShownReservation, Standstill } from './ports/standstills.ts';

/** Nodes that stand idle until a batch begins on all of them, or their time is up. */
export interface KeptNodes {
  /** The batch, where it is the asker's own; null: another organisation's. */
  readonly job: string | null;
  readonly nodes: readonly string[];
  /** Those of them that have other work until then: what runs there now, or was lent them because it is over in time. */
  readonly lent: readonly string[];
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
  const busy = busyOf(candidates);
  const kept = others.map((one) => keptNodes(one, own.orgId, busy));
  return {
    ...(mine === undefined ? {} : { reservation: keptNodes(mine, own.orgId, busy) }),
    ...(kept.length === 0 ? {} : { reservations: kept }),
    says: [
      ...(mine === undefined ? [] : [saysKept(keptNodes(mine, own.orgId, busy), 'for it')]),
      ...kept.map((one) => saysKept(one, one.job === null ? "for another's batch" : `for ${one.job}`)),
    ].join(' '),
  };
}

/** What a node is kept for, and what it does until then. Null: for nothing. */
export function keptNode(
  node: Candidate,
  shown: readonly Standstill[],
  asker: string,
): { readonly kept: KeptNodes; readonly says: string } | null {
  const one = shown.flatMap(({ reservations }) => reservations).find(({ nodeIds }) => nodeIds.includes(node.nodeId));
  if (one === undefined) return null;
  const kept = { ...keptNodes(one, asker, busyOf([node])), nodes: [node.nodeId] };
  const { startsInS, expiresInS, lent, job } = kept;
  const now = lent.length === 0 ? 'stands idle' : 'has other work, which is to be over by then';
  return {
    kept,
    says: `It is kept for ${job ?? 'a batch'} that begins on several nodes in about ${startsInS} s, and ${now}; in ${expiresInS} s at the latest it is free for others.`,
  };
}

function busyOf(candidates: readonly Candidate[]): ReadonlySet<string> {
  return new Set(candidates.filter(({ leasesActive }) => leasesActive > 0).map(({ nodeId }) => nodeId));
}

function keptNodes(
  { jobId, orgId, nodeIds, startsInMs, expiresInMs }: ShownReservation,
  asker: string,
  busy: ReadonlySet<string>,
): KeptNodes {
  const [startsInS, expiresInS] = [Math.ceil(startsInMs / 1_000), Math.ceil(expiresInMs / 1_000)];
  const lent = nodeIds.filter((id) => busy.has(id));
  return { job: orgId === asker ? jobId : null, nodes: nodeIds, lent, startsInS, expiresInS };
}

function saysKept({ nodes, lent, startsInS, expiresInS }: KeptNodes, forWhom: string): string {
  const busy = lent.length === 0 ? '' : ` ${lent.length} of them have other work, which is to be over by then;`;
  return `${nodes.length} nodes are kept ${forWhom}, which begins on them in about ${startsInS} s;${busy} in ${expiresInS} s at the latest they are free for others.`;
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
