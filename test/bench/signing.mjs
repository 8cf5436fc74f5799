/**
 * Signatures and recoveries of the house (native-speed secp256k1 on worker threads) beside plain viem on the event loop, turn by
 * turn in one run. Both must say the same about every digest before a time is believed.
 */
import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import { SigningPool } from '@freehold/chain';
import { recoverAddress, toHex } from 'viem';
import { sign } from 'viem/accounts';

/**
 * @import { Hex } from 'viem'
 *
 * @typedef {{ readonly privateKey: Hex; readonly hash: Hex }} Digest
 */

const DIGESTS = 400;
const ROUNDS = 5;
const WORKERS = Math.min(2, availableParallelism());

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ json = false } = {}) {
  const pool = new SigningPool(WORKERS);
  try {
    await pool.warm();
    const work = Array.from({ length: DIGESTS }, () => ({
      privateKey: toHex(randomBytes(32)),
      hash: toHex(randomBytes(32)),
    }));
    const signatures = await checked(pool, work);
    /** @type {Record<string, number[]>} */
    const seconds = { viemSign: [], poolSign: [], viemRecover: [], poolRecover: [] };
    /** Milliseconds of the event loop. @type {Record<string, number>} */
    const busy = {};
    const roads = {
      viemSign: () => inTurn(work, ({ privateKey, hash }) => sign({ hash, privateKey, to: 'hex' })),
      poolSign: () => Promise.all(work.map(({ privateKey, hash }) => pool.sign(privateKey, hash))),
      viemRecover: () => inTurn(work, ({ hash }, i) => recoverAddress({ hash, signature: signatures[i] })),
      poolRecover: () => Promise.all(work.map(({ hash }, i) => pool.recover(hash, signatures[i]))),
    };
    // A B A B: whatever else the machine does falls on both.
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [name, road] of Object.entries(roads)) {
        const loop = performance.eventLoopUtilization();
        const from = performance.now();
        await road();
        seconds[name].push((performance.now() - from) / 1_000);
        busy[name] = (busy[name] ?? 0) + performance.eventLoopUtilization(loop).active;
      }
    }
    const us = (/** @type {keyof typeof roads} */ name) => (median(seconds[name]) / DIGESTS) * 1e6;
    const metrics = {
      signRatio: round(us('viemSign') / us('poolSign')),
      recoverRatio: round(us('viemRecover') / us('poolRecover')),
      viemSignUs: round(us('viemSign')),
      poolSignUs: round(us('poolSign')),
      viemRecoverUs: round(us('viemRecover')),
      poolRecoverUs: round(us('poolRecover')),
      // What of it the event loop had to do itself: sending the tasks, hearing the answers.
      loopSignUs: round((busy['poolSign'] / ROUNDS / DIGESTS) * 1_000),
      loopRecoverUs: round((busy['poolRecover'] / ROUNDS / DIGESTS) * 1_000),
      workers: WORKERS,
    };
    if (!json) console.log(`${DIGESTS} digests of ${DIGESTS} keys, ${ROUNDS} rounds, medians`);
    const floor = { signRatio: 5, recoverRatio: 5 };
    return { metrics, floor, pass: metrics.signRatio >= floor.signRatio && metrics.recoverRatio >= floor.recoverRatio };
  } finally {
    await pool.close();
  }
}

/**
 * The signatures, once both roads agree on all of them and on who made them.
 *
 * @param {SigningPool} pool
 * @param {readonly Digest[]} work
 */
async function checked(pool, work) {
  const expected = await inTurn(work, ({ privateKey, hash }) => sign({ hash, privateKey, to: 'hex' }));
  const signatures = await Promise.all(work.map(({ privateKey, hash }) => pool.sign(privateKey, hash)));
  const signers = await inTurn(work, ({ hash }, i) => recoverAddress({ hash, signature: expected[i] }));
  const found = await Promise.all(work.map(({ hash }, i) => pool.recover(hash, expected[i])));
  for (let i = 0; i < work.length; i += 1) {
    if (signatures[i] !== expected[i] || found[i] !== signers[i].toLowerCase()) {
      throw new Error(`the pool and viem disagree about digest ${work[i].hash}: its time says nothing`);
    }
  }
  return expected;
}

/**
 * @template T, R
 * @param {readonly T[]} items
 * @param {(item: T, i: number) => Promise<R>} one
 */
async function inTurn(items, one) {
  const results = [];
  for (const [i, item] of items.entries()) results.push(await one(item, i));
  return results;
}

/** @param {readonly number[]} values */
function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 100) / 100;
}
