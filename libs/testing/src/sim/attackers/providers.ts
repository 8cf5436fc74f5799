import type { Conduct } from '../sim-node.ts';
import type { Scenario, SimWorld } from '../sim-world.ts';
import type { Attack, Seat } from './attack.ts';
import { calmMarket, SEAT } from './market-of.ts';
import { seatedNodes, seatedPurse } from './purse.ts';

export const NODE: Seat = { name: 'a node', market: (seed) => calmMarket(seed), purse: seatedPurse };

/** How long a bad citizen stays away, and how often. */
const AWAY_MS = 6_000;
const FLAP_EVERY_MS = 8_000;
const LOOK_MS = 500;

const madeUp = (share: number): Conduct => ({
  name: `makes up ${share * 100} %`,
  makesUp: (_text, dice) => dice.isHit(share),
});

/** The first node of the market is another. */
export function seated(...conducts: readonly Conduct[]): (market: Scenario) => Scenario {
  return (market) => ({
    ...market,
    nodes: market.nodes.map((node, i) => ({ ...node, conduct: conducts[i] ?? node.conduct })),
  });
}

export function isBenched(world: SimWorld): boolean {
  return seatedNodes(world).some(({ id }) => (world.db.nodes.get(id)?.benchedUntilMs ?? 0) > 0);
}

function isTakenBack(world: SimWorld): boolean {
  return seatedNodes(world).some(({ id }) => (world.db.nodes.get(id)?.leasesLost ?? 0) > 0);
}

const provider = (name: string, change: Attack['change'], isCaught: Attack['isCaught'] = isBenched): Attack => ({
  role: 'provider',
  name,
  seat: NODE,
  change,
  isCaught,
});

/** Patient: honest until its record is good, then a little at a time. */
function patient(honestRows: number, share: number): Conduct {
  let rows = 0;
  return {
    name: 'patient',
    makesUp: (_text, dice) => {
      rows += 1;
      return rows > honestRows && dice.isHit(share);
    },
  };
}

export const PROVIDERS: readonly Attack[] = [
  provider('makes up 2 % of its rows', seated(madeUp(0.02))),
  provider('makes up 10 % of its rows', seated(madeUp(0.1))),
  provider('makes up half of its rows', seated(madeUp(0.5))),
  provider('makes up all of its rows', seated(madeUp(1))),
  provider('is honest for 40 rows, then makes up 10 %', (market) => seated(patient(40, 0.1))(market)),
  provider('answers every row with its first answer', seated({ name: 'copyist', copies: true })),
  provider('signs roots of other rows', seated({ name: 'forger', forges: () => 'root' }), isTakenBack),
  provider(
    'falls silent in the middle of a third of its leases',
    seated({ name: 'withholder', fallsSilent: (dice) => dice.isHit(0.34) }),
    isTakenBack,
  ),
  provider(
    'keeps half of its leases and delivers nothing of them',
    seated({ name: 'staller', stalls: (dice) => dice.isHit(0.5) }),
    isTakenBack,
  ),
  provider('goes away after each commit', seated({ name: 'leaver', leavesMs: AWAY_MS }), () => false),
  provider(
    'refuses half of what it is given',
    seated({ name: 'picker', refuses: (dice) => dice.isHit(0.5) }),
    () => false,
  ),
  provider('goes off and on', (market) => ({ ...market, plays: flaps }), isTakenBack),
];

function flaps(world: SimWorld): void {
  const turn = (): void => {
    for (const node of seatedNodes(world)) node.crash(FLAP_EVERY_MS / 4);
    world.time.after(FLAP_EVERY_MS, turn);
  };
  world.time.after(FLAP_EVERY_MS, turn);
}

/** Comes back under a new name and payout address whenever its last one is benched. */
function sybil(conduct: () => Conduct): (market: Scenario) => Scenario {
  return (market) => ({
    ...seated(conduct())(market),
    plays: (world) => {
      let identities = 1;
      const look = (): void => {
        const last = seatedNodes(world).at(-1);
        if (last !== undefined && (world.db.nodes.get(last.id)?.benchedUntilMs ?? 0) > 0) {
          world.join({ conduct: conduct(), operator: `${SEAT} again ${identities}` });
          identities += 1;
        }
        world.time.after(LOOK_MS, look);
      };
      world.time.after(LOOK_MS, look);
    },
  });
}

const sybils = (name: string, conduct: () => Conduct): Attack => ({
  role: 'sybil',
  name,
  seat: NODE,
  change: sybil(conduct),
  isCaught: isBenched,
});

export const SYBILS: readonly Attack[] = [
  sybils('a new name after each bench, makes up 10 %', () => madeUp(0.1)),
  sybils('a new name after each bench, makes up half', () => madeUp(0.5)),
  sybils('a new name after each bench, honest for 40 rows, then half', () => patient(40, 0.5)),
  {
    role: 'sybil',
    name: 'one machine as three nodes',
    seat: NODE,
    change: (market) => {
      const name = (i: number) => ({ conduct: { name: 'one of three', slowness: 3 }, operator: `${SEAT} ${i}` });
      return { ...market, nodes: [name(0), ...market.nodes.slice(1), name(1), name(2)] };
    },
    isCaught: () => false,
  },
];
