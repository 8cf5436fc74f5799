import type { Ask, Candidate } from './ask.ts';
import { CONSTRAINTS, obstacle, servedModel } from './constraints.ts';
import { UNIT_KINDS, unitsToJson } from '../units/units.ts';

/** Why a task is (not) placed: how many nodes each constraint leaves out, and the cheapest node that price alone keeps away. */
export interface Explanation {
  readonly nodes: number;
  readonly fitting: number;
  readonly eliminated: readonly { readonly constraint: string; readonly requirement: string; readonly nodes: number }[];
  /** Rates that would admit the cheapest node kept away by price alone. */
  readonly priceThatWouldDo: Readonly<Record<string, string>> | null;
  readonly summary: string;
}

export function explainPlacement(ask: Ask, candidates: readonly Candidate[]): Explanation {
  const counts = new Map<string, number>();
  let fitting = 0;
  for (const node of candidates) {
    const kept = obstacle(ask, node);
    if (kept === null) fitting += 1;
    else counts.set(kept.name, (counts.get(kept.name) ?? 0) + 1);
  }
  const eliminated = CONSTRAINTS.flatMap((constraint) => {
    const nodes = counts.get(constraint.name);
    return nodes === undefined ? [] : [{ constraint: constraint.name, requirement: constraint.says(ask), nodes }];
  });
  return {
    nodes: candidates.length,
    fitting,
    eliminated,
    priceThatWouldDo: priceThatWouldDo(ask, candidates),
    summary: summarise(candidates.length, fitting, eliminated),
  };
}

function priceThatWouldDo(ask: Ask, candidates: readonly Candidate[]): Readonly<Record<string, string>> | null {
  const tooDear = candidates
    .filter((node) => obstacle(ask, node)?.name === 'price')
    .flatMap((node) => servedModel(ask, node)?.rates ?? []);
  const cheapest = tooDear.sort((a, b) => Number(total(a) - total(b)))[0];
  return cheapest === undefined ? null : unitsToJson(cheapest);
}

function total(rates: Partial<Record<(typeof UNIT_KINDS)[number], bigint>>): bigint {
  return UNIT_KINDS.reduce((sum, kind) => sum + (rates[kind] ?? 0n), 0n);
}

function summarise(nodes: number, fitting: number, eliminated: Explanation['eliminated']): string {
  if (nodes === 0) return 'No node is connected.';
  if (fitting > 0) return `${fitting} of ${nodes} nodes fit.`;
  return `None of ${nodes} nodes fits: ${eliminated.map((e) => `${e.nodes} left out because a node must be one that ${e.requirement}`).join('; ')}.`;
}
