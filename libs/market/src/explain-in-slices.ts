import {
  askExplained,
  explainStandings,
  standingTo,
  type Ask,
  type Candidate,
  type Circumstances,
  type Explanation,
} from '@freehold/domain';
import { inSlices, pauseOver } from './in-slices.ts';

/** As `explainPlacement`, over thousands of nodes in a process that carries chats meanwhile. */
export async function explainInSlices(
  of: Ask,
  candidates: readonly Candidate[],
  circumstances: Circumstances = {},
): Promise<Explanation> {
  const ask = askExplained(of, circumstances);
  const standings = await inSlices(candidates, standingTo(ask));
  await pauseOver(candidates);
  return explainStandings(ask, standings, circumstances);
}
