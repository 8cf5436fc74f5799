import type { Ask, Candidate } from './ask.ts';
import { CONSTRAINTS, type Constraint } from './constraints.ts';
import { standingTo, WAITING, type NodeStanding, type Way } from './standing.ts';

export { askingLess } from './relax-ask.ts';

/** Relaxations told to a person: beyond this nobody reads on. */
export const RELAXATIONS_MAX = 8;

/**
 * Unions of reasons looked at for a gang. Fleets have few reasons at a time; with more, smaller sets are looked at first, and what is
 * found opens the door all the same, and no part of it does.
 */
const UNIONS_MAX = 2_048;

/** Constraints that, lifted together, would place the work; without any one of them it would stay where it is. */
export interface Relaxation {
  readonly constraints: readonly Constraint[];
  /** Nodes that fit then, each with the model by which it does: a look at all nodes, which not everybody takes. */
  readonly waysIn: () => readonly Way[];
  /** Begins on so many at once: as was asked, or fewer where that is a part of the change. */
  readonly members: number;
}

/** Nodes that the same sets of constraints keep away: whatever is lifted, all of them are let in or none. */
interface Alike {
  readonly masks: readonly number[];
  readonly nodes: NodeStanding[];
}

/** A set of constraints, and how many nodes fit without them. */
interface Opening {
  readonly set: number;
  readonly open: number;
  readonly members: number;
}

export function minimalRelaxations(ask: Ask, candidates: readonly Candidate[], members = 1): readonly Relaxation[] {
  return relaxationsAmong(candidates.map(standingTo(ask)), members);
}

/**
 * The smallest sets of constraints whose lifting makes some node fit, or `members` of them: by inclusion, fewest first, and what the
 * requester can do before what only time does. Empty when enough fit already, or when nothing helps (nobody serves the model). To
 * begin on fewer nodes at once is a change as any other.
 *
 * Each node is kept away by a set of constraints, and lifting exactly that set lets it in; so the answer is among these sets and their
 * unions, those that contain no other. A brute force over all sets is the test of it. Nodes that are kept away alike count as one.
 */
export function relaxationsAmong(standings: readonly NodeStanding[], members: number): readonly Relaxation[] {
  const alike = groupsOf(standings);
  const one = leastOpening(alike, 1);
  const all = members === 1 ? one : leastOpening(alike, members);
  if (all.includes(0)) return [];
  const openings: Opening[] = all.map((set) => ({ set, open: openBy(alike, set), members }));
  if (members > 1)
    for (const set of one) {
      const open = openBy(alike, set);
      if (open < members) openings.push({ set, open, members: open });
    }
  const changes = ({ set, members: on }: Opening): number => bitsOf(set) + (on < members ? 1 : 0);
  return openings
    .sort((a, b) => changes(a) - changes(b) || bitsOf(a.set & WAITING) - bitsOf(b.set & WAITING) || b.open - a.open)
    .slice(0, RELAXATIONS_MAX)
    .map(({ set, members: on }) => ({
      constraints: CONSTRAINTS.filter((_, bit) => (set & (1 << bit)) !== 0),
      waysIn: () => waysBy(alike, set),
      members: on,
    }));
}

function groupsOf(standings: readonly NodeStanding[]): readonly Alike[] {
  const groups = new Map<string, Alike>();
  for (const standing of standings) {
    const masks = [...new Set(standing.ways.flatMap(({ lifted }) => lifted ?? []))].sort((a, b) => a - b);
    if (masks.length === 0) continue;
    const key = masks.join(' ');
    const known = groups.get(key);
    if (known === undefined) groups.set(key, { masks, nodes: [standing] });
    else known.nodes.push(standing);
  }
  return [...groups.values()];
}

/** Sets of constraints that, lifted, let so many nodes in, and of which no part does. */
function leastOpening(alike: readonly Alike[], members: number): readonly number[] {
  const found: number[] = [];
  for (const set of unionsOf(alike, members)) {
    if (found.some((part) => (part & ~set) === 0) || openBy(alike, set) < members) continue;
    // Among few unions no part of it opens, or it would have come before; among more than were made one may.
    const least = leastPart(set, (part) => openBy(alike, part) >= members);
    if (!found.includes(least)) found.push(least);
  }
  return found;
}

/** Fewest first; the last is all of them. */
function unionsOf(alike: readonly Alike[], members: number): readonly number[] {
  const masks = fewestFirst(alike.flatMap((group) => group.masks));
  if (members === 1) return masks;
  const sets = new Set([0, ...masks]);
  for (const mask of masks) {
    if (sets.size >= UNIONS_MAX) break;
    for (const set of [...sets]) sets.add(set | mask);
  }
  const all = masks.reduce((union, mask) => union | mask, 0);
  return [...fewestFirst([...sets]), all];
}

function fewestFirst(sets: readonly number[]): readonly number[] {
  const counted = [...new Set(sets)].map((set) => ({ set, bits: bitsOf(set) }));
  return counted.sort((a, b) => a.bits - b.bits || a.set - b.set).map(({ set }) => set);
}

/** Lifting more opens for no fewer: where no single one can be left, no part opens. */
function leastPart(set: number, opens: (part: number) => boolean): number {
  let least = set;
  for (let left = set; left !== 0; left &= left - 1) {
    const without = least & ~(left & -left);
    if (opens(without)) least = without;
  }
  return least;
}

function openBy(alike: readonly Alike[], set: number): number {
  let open = 0;
  for (const { masks, nodes } of alike) if (masks.some((mask) => (mask & ~set) === 0)) open += nodes.length;
  return open;
}

function waysBy(alike: readonly Alike[], set: number): readonly Way[] {
  return alike
    .filter(({ masks }) => masks.some((mask) => (mask & ~set) === 0))
    .flatMap(({ nodes }) => nodes)
    .flatMap(({ ways }) => ways.find(({ lifted }) => lifted !== null && (lifted & ~set) === 0) ?? []);
}

function bitsOf(mask: number): number {
  let bits = 0;
  for (let left = mask; left !== 0; left &= left - 1) bits += 1;
  return bits;
}
