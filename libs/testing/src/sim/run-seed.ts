import { examine, ledgerHash, wrongRowsDelivered } from './books.ts';
import { Dice } from './dice.ts';
import { HONEST, type Conduct } from './sim-node.ts';
import type { Request } from './sim-requester.ts';
import { SimWorld, type NodePlan, type RequesterPlan, type Scenario } from './sim-world.ts';

export interface SeedReport {
  readonly seed: number;
  readonly ledger: string;
  readonly violations: readonly string[];
  readonly virtualMs: number;
  readonly events: number;
  readonly jobs: number;
  /** Of them, those that began on several nodes at once. */
  readonly gangs: number;
  /** And those that began in the commit that took them. */
  readonly begun: number;
  readonly rows: number;
  readonly receipts: number;
  readonly deaths: number;
  readonly reorgs: number;
  readonly queueWipes: number;
  readonly rejected: number;
  readonly reexecuted: number;
  readonly wrongRowsDelivered: number;
}

/** Makes things up now and then; nobody else helps it. */
const CHEAT: Conduct = { name: 'cheat', makesUp: (_text, dice) => dice.isHit(0.3) };
const FORGER: Conduct = {
  name: 'forger',
  forges: (dice) => (dice.isHit(0.4) ? dice.pick(['root', 'signature'] as const) : null),
};
const WITHHOLDER: Conduct = { name: 'withholder', fallsSilent: (dice) => dice.isHit(0.3) };
const GRUMBLER: Conduct = { name: 'grumbler', refuses: (dice) => dice.isHit(0.3) };

/** Auditors that do not look. */
const LENIENT: Conduct = { name: 'lenient', judges: () => 'good' };
const SLANDERER: Conduct = { name: 'slanderer', judges: () => 'bad' };

const STRAGGLER: Conduct = { name: 'straggler', straggles: (dice) => dice.isHit(0.3) };

const STALLER: Conduct = { name: 'staller', stalls: (dice) => dice.isHit(0.5) };

/** About half of the batches are smaller. */
const BEGIN_BYTES_MAX = 2_400;

/** A market as the seed has it: who is there, what they want, and how rough it gets. */
export function scenarioOf(seed: number): Scenario {
  const dice = new Dice(seed).for('scenario');
  const gangs = new Dice(seed).for('together');
  const isRough = dice.isHit(0.8);
  const share = (most: number): number => (isRough ? dice.unit() * most : 0);
  const times = (most: number): number => (isRough ? dice.between(0, most) : 0);
  return {
    nodes: [
      ...nodesOf(dice),
      ...someOf([LENIENT, SLANDERER], 0.2, new Dice(seed).for('liars')),
      ...someOf([STRAGGLER], 0.3, new Dice(seed).for('stragglers')),
      ...someOf([STALLER], 0.2, new Dice(seed).for('stallers')),
    ],
    ownEngine: new Dice(seed).for('own engine').isHit(0.5),
    ...(new Dice(seed).for('road').isHit(0.5) ? { beginBytesMax: BEGIN_BYTES_MAX } : {}),
    requesters: Array.from({ length: dice.between(1, 2) }, () => withGangs(requesterOf(dice), gangs)),
    weather: { latencyMsMax: dice.between(2, 120), deaths: share(0.003), losses: share(0.02) },
    network: { latencyMsMax: dice.between(5, 400), lost: share(0.1), repeated: share(0.2) },
    queue: { delayMsMax: dice.between(5, 800), duplicates: share(0.3) },
    chain: { blockMs: 2_000, reorgs: share(0.25), reorgDepthMax: dice.between(1, 8), forgotten: share(0.6) },
    nodeCrashes: times(3),
    cuts: times(4),
    queueWipes: times(2),
    zombies: times(2),
    calmFromMs: 30_000,
  };
}

/** There are two honest nodes in every market: what begins on two at once can begin. */
function withGangs(plan: RequesterPlan, dice: Dice): RequesterPlan {
  const requests = plan.requests.map((one) => (one.rows > 1 && dice.isHit(0.2) ? { ...one, nodes: 2 } : one));
  return { ...plan, requests };
}

function nodesOf(dice: Dice): NodePlan[] {
  const honest = Array.from({ length: dice.between(2, 3) }, (_, i): NodePlan => ({
    conduct: HONEST,
    operator: `honest ${i}`,
  }));
  const others = [CHEAT, FORGER, WITHHOLDER, GRUMBLER].filter(() => dice.isHit(0.3));
  return [...honest, ...others.map((conduct): NodePlan => ({ conduct, operator: conduct.name }))];
}

function someOf(conducts: readonly Conduct[], share: number, dice: Dice): NodePlan[] {
  return conducts.filter(() => dice.isHit(share)).map((conduct) => ({ conduct, operator: conduct.name }));
}

function requesterOf(dice: Dice): RequesterPlan {
  const request = (_: unknown, i: number): Request => ({
    name: `batch ${i}`,
    rows: dice.between(1, 30),
    cancelAfterMs: dice.isHit(0.2) ? dice.between(200, 30_000) : null,
    window: dice.isHit(0.1) ? '1m' : '24h',
    verify: dice.pick(['spot', 'spot', 'spot', 'off', 'strict']),
    tries: dice.isHit(0.3) ? 2 : 1,
  });
  return { isSelfCustody: dice.isHit(0.6), requests: Array.from({ length: dice.between(1, 2) }, request) };
}

/** Runs one seed to its end and looks at everything that came of it. The same seed gives the same ledger, hash by hash. */
export async function runSeed(seed: number, scenario: Scenario = scenarioOf(seed)): Promise<SeedReport> {
  const world = new SimWorld(seed, scenario);
  const isDone = await world.run();
  const { db } = world;
  return {
    seed,
    ledger: ledgerHash(db),
    violations: await examine(world, isDone),
    virtualMs: Math.round(world.time.nowMs),
    events: world.time.events,
    jobs: db.jobs.size,
    gangs: db.jobs.where(({ metadata, nextRow }) => metadata['nodes'] !== undefined && nextRow > 0).length,
    begun: db.jobs.where(({ enteredMs }) => enteredMs.in_progress === enteredMs.validating).length,
    rows: db.rows.size,
    receipts: db.receipts.size,
    deaths: world.deaths,
    reorgs: world.chain.reorgs,
    queueWipes: world.queue.wipes,
    rejected: db.leases.where(({ outcome }) => outcome === 'rejected').length,
    reexecuted: db.tasks.where(({ epoch }) => epoch > 1).length,
    wrongRowsDelivered: await wrongRowsDelivered(world),
  };
}

/** What to type to see this seed again. */
export function replayLine(seed: number): string {
  return `npm run sim -- --seed ${seed}`;
}
