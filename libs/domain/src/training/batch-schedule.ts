import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { DomainError } from '../errors.ts';

const LABEL = new TextEncoder().encode('freehold/batch/v1');
const TWO_64 = 1n << 64n;
/** A permutation is kept in memory: beyond this an epoch would take seconds to shuffle. */
export const EXAMPLES_MAX = 1_000_000;

/** What fixes the batches of a fine-tune: nothing else may, so that whoever re-runs a segment sees the same examples. */
export interface BatchSchedule {
  /** sha256 of the training file. */
  readonly dataHash: Uint8Array;
  readonly seed: number;
  /** Examples in the file. */
  readonly examples: number;
  /** Examples per step. */
  readonly batchExamples: number;
}

/**
 * The examples of step `step` (0 is the first), by their place in the training file.
 *
 * A pure function of (data hash, seed, step). The data is walked in epochs, each in an order of its own: every example is
 * seen once per epoch, and a batch may end one epoch and begin the next. The order is a Fisher-Yates shuffle driven by
 * HMAC-SHA256(data hash, label ‖ u64be(seed) ‖ u64be(epoch) ‖ u64be(counter)), four u64 per block, values at or above
 * 2^64 − (2^64 mod n) rejected. Repeated in Python by the PEFT trainer; bound by `test/vectors/batch-schedule.json`.
 */
export function batchOf(schedule: BatchSchedule, step: number): number[] {
  const { examples, batchExamples } = schedule;
  assertCount('examples', examples, EXAMPLES_MAX);
  assertCount('batchExamples', batchExamples, EXAMPLES_MAX);
  if (!Number.isSafeInteger(step) || step < 0) throw new DomainError({ code: 'BATCH_STEP', step });
  const batch: number[] = [];
  let order: readonly number[] = [];
  let orderOf = -1;
  for (let at = step * batchExamples; batch.length < batchExamples; at += 1) {
    const epoch = Math.floor(at / examples);
    if (epoch !== orderOf) {
      order = epochOrder(schedule, epoch);
      orderOf = epoch;
    }
    batch.push(order[at % examples] as number);
  }
  return batch;
}

/** The last order made: a run walks an epoch step by step, and would shuffle it anew for every step. */
let remembered: { readonly key: string; readonly order: readonly number[] } | undefined;

function epochOrder(schedule: BatchSchedule, epoch: number): readonly number[] {
  const key = `${schedule.dataHash.join()}/${schedule.seed}/${schedule.examples}/${epoch}`;
  if (remembered?.key === key) return remembered.order;
  const next = wordsOf(schedule, epoch);
  const order = Array.from({ length: schedule.examples }, (_, at) => at);
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = below(last + 1, next);
    const kept = order[last] as number;
    order[last] = order[other] as number;
    order[other] = kept;
  }
  remembered = { key, order };
  return order;
}

/** A whole number in [0, n), every one equally likely. */
function below(n: number, next: () => bigint): number {
  const modulus = BigInt(n);
  const limit = TWO_64 - (TWO_64 % modulus);
  for (;;) {
    const value = next();
    if (value < limit) return Number(value % modulus);
  }
}

/** The endless row of u64 that shuffles one epoch. */
function wordsOf({ dataHash, seed }: BatchSchedule, epoch: number): () => bigint {
  const message = new Uint8Array(LABEL.length + 24);
  message.set(LABEL);
  const view = new DataView(message.buffer);
  view.setBigUint64(LABEL.length, BigInt(seed));
  view.setBigUint64(LABEL.length + 8, BigInt(epoch));
  let counter = 0n;
  let block = new DataView(new ArrayBuffer(0));
  let word = 4;
  return () => {
    if (word === 4) {
      view.setBigUint64(LABEL.length + 16, counter);
      counter += 1n;
      block = new DataView(hmac(sha256, dataHash, message).slice().buffer);
      word = 0;
    }
    word += 1;
    return block.getBigUint64((word - 1) * 8);
  };
}

function assertCount(name: string, count: number, max: number): void {
  if (!Number.isInteger(count) || count < 1 || count > max)
    throw new DomainError({ code: 'BATCH_COUNT', name, count, max });
}
