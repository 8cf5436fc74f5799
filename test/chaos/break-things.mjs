import { setTimeout as sleep } from 'node:timers/promises';
import { passChainTime, reorganise, Targets, wipeQueue } from './faults.mjs';
import { FAILPOINTS } from './failpoints.mjs';

/**
 * @import { LoadParts } from './load.mjs'
 * @import { Random } from './random.mjs'
 *
 * @typedef {'kill' | 'stop' | 'absence' | 'reorg' | 'wipe' | 'crash'} Step
 *
 * @typedef {object} Done How often each was done.
 * @property {number} kills
 * @property {number} stops
 * @property {number} absences
 * @property {number} killsInFlight
 * @property {number} failpoints
 * @property {number} reorgs
 * @property {number} queueWipes
 * @property {number} databaseCrashes
 * @property {number} epochs
 */

/** Longer than an epoch and longer than the window of the devnet's book. */
const EPOCH_SECONDS = 3_600;
const WINDOW_SECONDS = 30;
/** All processes are away: looked for again after this long. */
const NOBODY_MS = 100;
const SAY_EVERY = 100;
/** A failpoint that is passed all the time is not always hit the first time. */
const HITS_MAX = 4;

/**
 * Kills, stops and absences in random order until all were made; the queue is dropped, Postgres stopped hard and the chain
 * reorganised along the way, while the chain's clock jumps from epoch to epoch, so that there is always something to settle.
 *
 * @param {LoadParts & { readonly random: Random }} parts
 */
export async function breakThings({ house, db, random, profile, say, inTime }) {
  /** @type {Done} */
  const done = {
    kills: 0,
    stops: 0,
    absences: 0,
    killsInFlight: 0,
    failpoints: 0,
    reorgs: 0,
    queueWipes: 0,
    databaseCrashes: 0,
    epochs: 0,
  };
  /** @type {Step[]} */
  const steps = random.shuffled([
    ...Array(profile.kills - profile.failpoints).fill('kill'),
    ...Array(profile.stops).fill('stop'),
    ...Array(profile.absences).fill('absence'),
    ...Array(profile.reorgs).fill('reorg'),
    ...Array(profile.queueWipes).fill('wipe'),
    ...Array(profile.databaseCrashes).fill('crash'),
  ]);
  // Before a scheduler was killed for the first time, an absence takes no longer than a lease.
  if (profile.calmAbsences) steps.sort((a, b) => Number(a === 'absence') - Number(b === 'absence'));
  const stepsInAll = steps.length;
  const order = random.shuffled(FAILPOINTS);
  let armed = 0;
  // Spread over the run: as many deaths at failpoints as the part of the faults that is made.
  const arm = () => {
    const allowed = Math.ceil(profile.failpoints * (1 - steps.length / stepsInAll));
    if (targets.failpointDeaths >= allowed) return undefined;
    armed += 1;
    return `${order[armed % order.length]}#${1 + Math.floor(random.next() * HITS_MAX)}`;
  };
  const targets = new Targets({ house, db, random, arm, calmAbsences: profile.calmAbsences });
  const clock = setInterval(() => void nextEpoch({ house, db, done, say }), profile.clockEveryMs);
  try {
    while (steps.length > 0) {
      inTime(`${steps.length} faults are still to be made`);
      targets.throwIfBroken();
      const step = steps[steps.length - 1];
      if (!(await oneStep(step, { house, db, random, done, targets, say }))) {
        await sleep(NOBODY_MS);
        continue;
      }
      steps.pop();
      if (steps.length > 0 && steps.length % SAY_EVERY === 0) say(`${steps.length} faults are still to be made`);
      // Where fewer died at failpoints than were wanted, more are killed from outside.
      if (steps.length === 0 && done.kills + targets.failpointDeaths < profile.kills) steps.push('kill');
      // An absence that took nothing from the node was none.
      if (steps.length === 0 && profile.absences > 0) {
        await targets.allBack();
        if (targets.absences < profile.absences) steps.push('absence');
      }
      if (step === 'kill' || step === 'stop') await sleep(random.between(...profile.gapMs));
    }
    await targets.settle();
  } finally {
    clearInterval(clock);
  }
  done.absences = targets.absences;
  done.failpoints = targets.failpointDeaths;
  done.kills += targets.failpointDeaths;
  done.killsInFlight += targets.failpointDeathsInFlight;
  return done;
}

/**
 * @param {Step} step
 * @param {Pick<LoadParts, 'house' | 'db' | 'say'> & { random: Random; done: Done; targets: Targets }} parts
 * @returns false when nobody was there to be hit: the step is still to be made.
 */
async function oneStep(step, { house, db, random, done, targets, say }) {
  if (step === 'reorg') {
    await reorganise(house, random);
    done.reorgs += 1;
    return true;
  }
  if (step === 'wipe') {
    const error = await wipeQueue(db).then(
      () => null,
      (why) => why,
    );
    if (error !== null) say(`queue not dropped yet: ${error.message}`);
    else done.queueWipes += 1;
    return error === null;
  }
  if (step === 'crash') {
    if (house.postgres === null) return true;
    await house.crashPostgres();
    done.databaseCrashes += 1;
    return true;
  }
  const isNode = (/** @type {string} */ name) => house.nodes.has(name);
  const name = step === 'absence' ? targets.next(isNode) : targets.next();
  if (name === null) return false;
  await targets.workOf(name);
  if (step === 'kill') {
    const hit = await targets.kill(name);
    done.kills += 1;
    if (hit) done.killsInFlight += 1;
  } else if (step === 'stop') {
    await targets.stop(name);
    done.stops += 1;
  } else {
    return await targets.takeAway(name);
  }
  return true;
}

/**
 * One epoch ends, and then its window: whoever is up settles it. Never before the last one is settled.
 *
 * @param {Pick<LoadParts, 'house' | 'db' | 'say'> & { done: Done }} parts
 */
async function nextEpoch({ house, db, done, say }) {
  try {
    const { rows } = await db.query(`SELECT count(*) AS n FROM chain_epoch WHERE state IN ('closed', 'posted')`);
    // The second half: what is posted becomes final. Else the open epoch ends.
    if (rows[0].n !== '0') return await passChainTime(house, WINDOW_SECONDS);
    await passChainTime(house, EPOCH_SECONDS);
    done.epochs += 1;
  } catch (error) {
    say(`the chain's clock did not move: ${error instanceof Error ? error.message : String(error)}`);
  }
}
