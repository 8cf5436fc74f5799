import type { Rates } from '../units/units.ts';
import { UNIT_KINDS } from '../units/units.ts';
import type { Ask, Candidate } from './ask.ts';
import { capabilitiesFor, CONSTRAINTS, ratesFor, secondsFor, type Constraint } from './constraints.ts';
import { alternatives } from './served-model.ts';

/** Relaxations told to a person: beyond this nobody reads on. */
export const RELAXATIONS_MAX = 8;

/** Constraints that, lifted together, would place the work; without any one of them it would stay where it is. */
export interface Relaxation {
  readonly constraints: readonly Constraint[];
  /** Nodes that this opens and no smaller relaxation does. */
  readonly nodes: readonly Candidate[];
}

/**
 * The smallest sets of constraints whose lifting makes some node fit: by inclusion, fewest first, and what the requester can
 * do before what only time does. Empty when a node fits already, or when nothing helps (nobody serves the model).
 *
 * Each node is kept away by a set of constraints, and lifting exactly that set lets it in; so the answer is the sets that
 * contain no other. A brute force over all sets is the test of it.
 */
export function minimalRelaxations(ask: Ask, candidates: readonly Candidate[]): readonly Relaxation[] {
  const byMask = new Map<number, Candidate[]>();
  for (const node of candidates) {
    const own = new Set<number>();
    for (const alternative of alternatives(ask, node)) {
      const mask = maskOf(ask, alternative);
      // A node counts once for what would let it in, however many of its models that opens.
      if (mask === null || own.has(mask)) continue;
      own.add(mask);
      const known = byMask.get(mask);
      if (known === undefined) byMask.set(mask, [alternative]);
      else known.push(alternative);
    }
  }
  if (byMask.has(0)) return [];
  const masks = [...byMask.keys()];
  return masks
    .filter((mask) => !masks.some((other) => other !== mask && (other & mask) === other))
    .map((mask) => ({
      constraints: CONSTRAINTS.filter((_, bit) => (mask & (1 << bit)) !== 0),
      nodes: byMask.get(mask) ?? [],
    }))
    .sort(
      (a, b) => a.constraints.length - b.constraints.length || waits(a) - waits(b) || b.nodes.length - a.nodes.length,
    )
    .slice(0, RELAXATIONS_MAX);
}

/** The constraints that keep a node away, by their bits; null when one of them is what the work is. */
function maskOf(ask: Ask, node: Candidate): number | null {
  let mask = 0;
  for (const [bit, constraint] of CONSTRAINTS.entries()) {
    if (constraint.holds(ask, node)) continue;
    if (constraint.lifted === null) return null;
    mask |= 1 << bit;
  }
  return mask;
}

const waits = ({ constraints }: Relaxation): number =>
  constraints.filter(({ lifted }) => lifted === 'by-waiting').length;

/** The ask with just so much less in it that `node` meets what the requester can change. What only time lifts stays. */
export function askingLess(ask: Ask, node: Candidate): Ask {
  const gpus = Math.min(ask.gpus, node.gpus.length);
  const least = (of: (gpu: Candidate['gpus'][number]) => number): number =>
    node.gpus.reduce((lowest, gpu) => Math.min(lowest, of(gpu)), Number.POSITIVE_INFINITY);
  const capabilities = capabilitiesFor(ask, node);
  const lacks = (name: string): boolean => CONSTRAINTS.some((one) => one.name === name && !one.holds(ask, node));
  return {
    ...ask,
    gpus,
    gpuMilli:
      gpus === 0
        ? 0
        : Math.min(
            ask.gpuMilli,
            least((gpu) => gpu.milli),
          ),
    vramMib:
      node.gpus.length === 0
        ? 0
        : Math.min(
            ask.vramMib,
            least((gpu) => gpu.vramMib),
          ),
    capabilities: ask.capabilities.filter((capability) => capabilities.includes(capability)),
    gpuModels: lacks('gpu-model')
      ? widened(
          ask.gpuModels,
          node.gpus.map((gpu) => gpu.model),
        )
      : ask.gpuModels,
    regions: lacks('region') ? widened(ask.regions, [node.region]) : ask.regions,
    pools: lacks('pool') ? widened(ask.pools, node.pools) : ask.pools,
    isolation: lacks('isolation') ? node.isolation : ask.isolation,
    reputationFloor: Math.min(ask.reputationFloor, node.reputation),
    rateCaps: lacks('price') ? raised(ask.rateCaps, ratesFor(ask, node)) : ask.rateCaps,
    deadlineInMs: Math.max(ask.deadlineInMs, Math.ceil(secondsFor(ask, node, 1) * 1_000)),
  };
}

/** An allow-list that also allows what is there; no list at all where nothing is there to name. */
function widened(list: readonly string[], also: readonly string[]): readonly string[] {
  return also.length === 0 ? [] : [...new Set([...list, ...also])];
}

function raised(caps: Rates, rates: Rates): Rates {
  const kinds = UNIT_KINDS.filter((kind) => caps[kind] !== undefined);
  const needed = kinds.length > 0 ? kinds : UNIT_KINDS;
  return Object.fromEntries(
    needed.map((kind) => {
      const [cap, rate] = [caps[kind] ?? 0n, rates[kind] ?? 0n];
      return [kind, rate > cap ? rate : cap];
    }),
  );
}

/** What a person would change, in words, for each constraint of a relaxation. */
export function changesOf(ask: Ask, less: Ask, constraints: readonly Constraint[]): readonly string[] {
  return constraints.map(({ name, says, lifted }) =>
    lifted === 'by-waiting'
      ? `wait until a node is one that ${says(ask)}`
      : `ask only for one that ${saysLess(name, says, less)}`,
  );
}

function saysLess(name: string, says: Constraint['says'], less: Ask): string {
  if (name === 'price') {
    const caps = Object.entries(less.rateCaps).filter(([, cap]) => cap > 0n);
    return `asks no more than ${caps.map(([kind, cap]) => `${cap} per million of ${kind}`).join(', ') || 'nothing'}`;
  }
  if (name === 'deadline') return `is ready for a row within ${Math.ceil(less.deadlineInMs / 1_000)} s`;
  return says(less);
}
