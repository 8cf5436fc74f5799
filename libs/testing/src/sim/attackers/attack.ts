import type { Scenario, SimWorld } from '../sim-world.ts';
import type { Purse } from './purse.ts';

export const ROLES = ['requester', 'provider', 'sybil', 'auditor', 'operator'] as const;
export type Role = (typeof ROLES)[number];

/** A place in the market: who sits there honestly, and how its purse is counted. */
export interface Seat {
  readonly name: string;
  readonly market: (seed: number) => Scenario;
  readonly purse: (world: SimWorld) => Purse | Promise<Purse>;
}

/** One way to play a place otherwise than honestly. */
export interface Attack {
  readonly role: Role;
  readonly name: string;
  readonly seat: Seat;
  /** The honest market of a seed, with the attacker in its place. */
  readonly change: (market: Scenario) => Scenario;
  /** Whether the market held something against it. */
  readonly isCaught: (world: SimWorld) => boolean;
  /** Why it pays in spite of everything, where it does: what the table of exceptions says. */
  readonly exception?: string;
}
