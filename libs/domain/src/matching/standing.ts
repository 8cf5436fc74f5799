import { microCost } from '../units/units.ts';
import type { Ask, Candidate } from './ask.ts';
import { CONSTRAINTS, obstacle, ratesFor, secondsFor, type Constraint } from './constraints.ts';
import { askingFewerGpus } from './relax-ask.ts';
import { alternatives } from './served-model.ts';
import { unitOf } from './typical-unit.ts';
import { askableDeadlineMs } from './wishes.ts';

/** A node with the one of its models that is meant, and what keeps it from an ask, as bits in the order of the constraints. */
export interface Way {
  readonly node: Candidate;
  /** As it is asked. */
  readonly failing: number;
  /** What would have to be lifted; null where one of them is what the work is. */
  readonly lifted: number | null;
  /** What a typical unit of the work costs there. */
  readonly price: bigint;
}

/** How a node stands to an ask. */
export interface NodeStanding {
  readonly node: Candidate;
  /** The first constraint that keeps it away; null: it fits. */
  readonly first: Constraint | null;
  /** Each of its models that might serve once, the cheapest first. */
  readonly ways: readonly Way[];
}

/** Room is asked for by the number of GPUs and the share of each: who would ask for fewer would ask for less of it. */
const ROOM = maskOf(({ name }) => name === 'room');
const BY_GPUS = maskOf(({ name }) => name === 'gpu-count' || name === 'gpu-share');
const [OF_ROOM] = CONSTRAINTS.filter(({ name }) => name === 'room');
const DEADLINE = maskOf(({ name }) => name === 'deadline');
const NEVER = maskOf(({ lifted }) => lifted === null);
/** Bits of what keeps no node away that meets everything else, in time. */
export const WAITING = maskOf(({ lifted }) => lifted === 'by-waiting');

/** The bits of constraints. */
export function maskOf(counts: (constraint: Constraint) => boolean): number {
  return CONSTRAINTS.reduce((mask, constraint, bit) => (counts(constraint) ? mask | (1 << bit) : mask), 0);
}

/** How nodes stand to an ask: each constraint is asked once of every way in, and whatever is said of the ask follows from these. */
export function standingTo(ask: Ask): (node: Candidate) => NodeStanding {
  const unit = unitOf(ask);
  const wayOf = (node: Candidate): Way => {
    const failing = failingOf(ask, node);
    return { node, failing, lifted: liftedOf(ask, node, failing), price: microCost(unit, ratesFor(ask, node)) };
  };
  return (node) => {
    const ways = alternatives(ask, node).map(wayOf);
    const [only, other] = ways;
    const first = only === undefined || other !== undefined ? obstacle(ask, node) : firstOf(only.failing);
    return { node, first, ways };
  };
}

function failingOf(ask: Ask, node: Candidate): number {
  let mask = 0;
  for (let bit = 0; bit < CONSTRAINTS.length; bit += 1)
    if (CONSTRAINTS[bit]?.holds(ask, node) === false) mask |= 1 << bit;
  return mask;
}

function liftedOf(ask: Ask, node: Candidate, failing: number): number | null {
  if ((failing & NEVER) !== 0) return null;
  if ((failing & DEADLINE) !== 0 && askableDeadlineMs(secondsFor(ask, node, 1)) === null) return null;
  const isBeside = (failing & ROOM) !== 0 && (failing & BY_GPUS) !== 0;
  return isBeside && OF_ROOM?.holds(askingFewerGpus(ask, node), node) === true ? failing & ~ROOM : failing;
}

function firstOf(failing: number): Constraint | null {
  return failing === 0 ? null : (CONSTRAINTS[31 - Math.clz32(failing & -failing)] ?? null);
}

/** Cheapest first, among equals by name. */
export function byPrice(a: Way, b: Way): number {
  return a.price < b.price ? -1 : a.price > b.price ? 1 : a.node.nodeId < b.node.nodeId ? -1 : 1;
}
