import {
  askExplained,
  explainStandings,
  standingTo,
  type Ask,
  type Candidate,
  type Circumstances,
  type Explanation,
} from '@freehold/domain';
import { inSlices, inSteps, pauseOver } from './in-slices.ts';
import { maxCostFor, type Priced } from './max-cost.ts';

/**
 * As `explainPlacement`, over thousands of nodes in a process that carries chats meanwhile.
 *
 * @param price What the job is priced by: asked where something is to be proposed. Without it no other price is.
 */
export async function explainInSlices(
  of: Ask,
  candidates: readonly Candidate[],
  circumstances: Circumstances = {},
  price: () => Promise<Priced | undefined> = () => Promise.resolve(undefined),
): Promise<Explanation> {
  const ask = askExplained(of, circumstances);
  const standings = await inSlices(candidates, standingTo(ask));
  await pauseOver(candidates);
  // Nothing is proposed where enough of them fit.
  const fitting = standings.filter(({ first }) => first === null).length;
  const priced = fitting >= (circumstances.members ?? 1) ? undefined : await price();
  return inSteps(explainStandings(ask, standings, { ...circumstances, maxCostFor: priced && maxCostFor(priced) }));
}
