import type { Rates } from '../units/units.ts';
import { UNIT_KINDS } from '../units/units.ts';
import type { Ask, Candidate } from './ask.ts';
import { capabilitiesFor, CONSTRAINTS, ratesFor, secondsFor, type Constraint } from './constraints.ts';
import { alternatives } from './served-model.ts';

/** Relaxations told to a person: beyond this nobody reads on. */
export const RELAXATIONS_MAX = 8;

/**
 * Unions of reasons looked at for a gang. Fleets have few reasons at a time; with more, smaller sets are looked at first, and what is
 * found opens the door all the same.
 */
const UNIONS_MAX = 2_048;

/** Constraints that, lifted together, would place the work; without any one of them it would stay where it is. */
export interface Relaxation {
  readonly constraints: readonly Constraint[];
  /** Nodes that fit then. */
  readonly nodes: readonly Candidate[];
  /** Begins on so many at once: as was asked, or fewer where that is a part of the change. */
  readonly members: number;
}

/** What keeps a node away, by its bits, and the node as it stands with the one of its models that is meant. */
interface Way {
  readonly mask: number;
  readonly node: Candidate;
}

/**
 * The smallest sets of constraints whose lifting makes some node fit, or `members` of them: by inclusion, fewest first, and what the
 * requester can do before what only time does. Empty when enough fit already, or when nothing helps (nobody serves the model). To
 * begin on fewer nodes at once is a change as any other.
 *
 * Each node is kept away by a set of constraints, and lifting exactly that set lets it in; so the answer is among these sets and their
 * unions, those that contain no other. A brute force over all sets is the test of it.
 */
export function minimalRelaxations(ask: Ask, candidates: readonly Candidate[], members = 1): readonly Relaxation[] {
  const nodes = candidates.map((node) => waysIn(ask, node)).filter((ways) => ways.length > 0);
  const one = leastOpening(nodes, 1);
  const all = members === 1 ? one : leastOpening(nodes, members);
  if (all.includes(0)) return [];
  const fewer = one.filter((mask) => !opensFor(nodes, mask, members)).map((mask) => relaxation(nodes, mask, 1));
  const relaxations = [
    ...all.map((mask) => relaxation(nodes, mask, members)),
    ...fewer.map((less) => ({ ...less, members: less.nodes.length })),
  ];
  const changes = ({ constraints, members: on }: Relaxation): number => constraints.length + (on < members ? 1 : 0);
  return relaxations
    .sort((a, b) => changes(a) - changes(b) || waits(a) - waits(b) || b.nodes.length - a.nodes.length)
    .slice(0, RELAXATIONS_MAX);
}

/** The ways a node could be let in, each model of it once for what that takes. */
function waysIn(ask: Ask, node: Candidate): readonly Way[] {
  const ways: Way[] = [];
  for (const alternative of alternatives(ask, node)) {
    const mask = maskOf(ask, alternative);
    if (mask === null || ways.some((known) => known.mask === mask)) continue;
    ways.push({ mask, node: alternative });
  }
  return ways;
}

/** Sets of constraints that, lifted, let so many nodes in, and of which no part does. */
function leastOpening(nodes: readonly (readonly Way[])[], members: number): readonly number[] {
  const masks = [...new Set(nodes.flatMap((ways) => ways.map(({ mask }) => mask)))];
  masks.sort((a, b) => bitsOf(a) - bitsOf(b) || a - b);
  const sets = new Set(masks);
  if (members > 1) {
    sets.add(0);
    for (const mask of masks) {
      for (const set of [...sets]) {
        if (sets.size >= UNIONS_MAX) break;
        sets.add(set | mask);
      }
    }
  }
  const opening = [...sets].filter((set) => opensFor(nodes, set, members));
  return opening.filter((set) => !opening.some((other) => other !== set && (other & set) === other));
}

function opensFor(nodes: readonly (readonly Way[])[], set: number, members: number): boolean {
  let open = 0;
  for (const ways of nodes) {
    if (ways.some(({ mask }) => (mask & ~set) === 0)) open += 1;
    if (open >= members) return true;
  }
  return false;
}

function relaxation(nodes: readonly (readonly Way[])[], set: number, members: number): Relaxation {
  return {
    constraints: CONSTRAINTS.filter((_, bit) => (set & (1 << bit)) !== 0),
    nodes: nodes.flatMap((ways) => ways.find(({ mask }) => (mask & ~set) === 0)?.node ?? []),
    members,
  };
}

function bitsOf(mask: number): number {
  let bits = 0;
  for (let left = mask; left !== 0; left &= left - 1) bits += 1;
  return bits;
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
      node.gpus.length === 0
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
