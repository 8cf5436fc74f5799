import { HONEST, type Conduct } from '../sim-node.ts';
import { isMadeUp } from '../row-truth.ts';
import type { Attack, Seat } from './attack.ts';
import { calmMarket } from './market-of.ts';
import { isBenched, NODE, seated } from './providers.ts';
import { seatedPurse } from './purse.ts';

const PAIR: Seat = {
  name: 'two nodes of two operators',
  market: (seed) => calmMarket(seed, [HONEST, HONEST]),
  purse: seatedPurse,
};

/** The coordinator cannot run the model itself, as with most large ones: then nodes alone judge nodes. */
const PAIR_ALONE: Seat = {
  name: 'two nodes of two operators, and the coordinator has no engine',
  market: (seed) => calmMarket(seed, [HONEST, HONEST], false),
  purse: seatedPurse,
};

const PASSES: Conduct = { name: 'passes everything', judges: () => 'good' };
const FAILS: Conduct = { name: 'fails everybody', judges: () => 'bad' };
const DEAF: Conduct = { name: 'deaf', isDeaf: true };
/** Audits are anonymous, so a friend's rows are known by what is in them. */
const FRIEND: Conduct = {
  name: 'friend',
  judges: (committed, work) => (isMadeUp(work, committed) ? 'good' : null),
};
const CHEAT: Conduct = { name: 'cheat', makesUp: (_text, dice) => dice.isHit(0.5) };

const alone = (name: string, conduct: Conduct): Attack => ({
  ...{ role: 'auditor', name, seat: NODE, change: seated(conduct), isCaught: isBenched },
});
const pair = (name: string, seat: Seat, ...conducts: readonly Conduct[]): Attack => ({
  ...{ role: 'auditor', name, seat, change: seated(...conducts), isCaught: isBenched },
});
const CHEAT_THAT_PASSES: Conduct = { ...CHEAT, ...PASSES, name: 'cheat that passes' };

export const AUDITORS: readonly Attack[] = [
  alone('passes everything without looking', PASSES),
  alone('fails everybody', FAILS),
  alone('answers no audit', DEAF),
  pair('passes the made-up half of its friend', PAIR, CHEAT, FRIEND),
  pair('both pass everything, one makes up half', PAIR, CHEAT_THAT_PASSES, PASSES),
  pair('both fail everybody', PAIR, FAILS, FAILS),
  pair('the friend again, where the coordinator has no engine', PAIR_ALONE, CHEAT, FRIEND),
  pair('both pass everything, where the coordinator has no engine', PAIR_ALONE, CHEAT_THAT_PASSES, PASSES),
  pair('both fail everybody, where the coordinator has no engine', PAIR_ALONE, FAILS, FAILS),
];
