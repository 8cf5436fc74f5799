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

const PASSES: Conduct = { name: 'passes everything', judges: () => 'good' };
const FAILS: Conduct = { name: 'fails everybody', judges: () => 'bad' };
const DEAF: Conduct = { name: 'deaf', isDeaf: true };
/** Audits are anonymous, so a friend's rows are known by what is in them. */
const FRIEND: Conduct = {
  name: 'friend',
  judges: (committed, work) => (isMadeUp(work, committed) ? 'good' : null),
};
const CHEAT: Conduct = { name: 'cheat', makesUp: (_text, dice) => dice.isHit(0.5) };

const alone = (
  name: string,
  conduct: Conduct,
  exception: string,
  isCaught: Attack['isCaught'] = isBenched,
): Attack => ({
  ...{ role: 'auditor', name, seat: NODE, change: seated(conduct), isCaught, exception },
});
const pair = (name: string, ...conducts: readonly Conduct[]): Attack => ({
  role: 'auditor',
  name,
  seat: PAIR,
  change: seated(...conducts),
  isCaught: isBenched,
});

export const AUDITORS: readonly Attack[] = [
  alone('passes everything without looking', PASSES, 'Nobody looks at what was passed.'),
  alone('fails everybody', FAILS, 'It is outvoted, and nothing is held against it.'),
  alone(
    'answers no audit',
    DEAF,
    'An audit brings at most the fee of its lease, and may cost more than that.',
    () => false,
  ),
  pair('passes the made-up half of its friend', CHEAT, FRIEND),
  pair('both pass everything, one makes up half', { ...CHEAT, ...PASSES, name: 'cheat that passes' }, PASSES),
  pair('both fail everybody', FAILS, FAILS),
];
