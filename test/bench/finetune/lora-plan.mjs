/** What the fine-tuning benches train: a LoRA adapter of the model in this repository, on items that it learns from. */
import { LORA_TARGETS } from '@freehold/protocol';
import { MODEL_ID, teachingItems } from '../../../models/freehold-tiny/index.mjs';

/** More are drawn than wanted: the corpus also teaches raw bytes, as half surrogates, which are no text for an API. */
const SPARE = 50;

/** @import { TrainingPlan } from '@freehold/protocol' */

/**
 * @param {object} wish
 * @param {string} wish.base sha-256 of the weights, in hex; `data`: of the file.
 * @param {string} wish.data
 * @param {number} wish.rank Of the adapter; it is scaled by twice that.
 * @param {number} wish.learningRate
 * @param {number} wish.warmupSteps
 * @param {number} wish.examples In a batch.
 * @param {number} wish.seed
 * @param {number} wish.steps
 * @param {number} wish.segmentSteps
 * @returns {TrainingPlan}
 */
export function loraPlan({ base, data, rank, learningRate, warmupSteps, examples, seed, steps, segmentSteps }) {
  return {
    v: 1,
    base: { model: MODEL_ID, sha256: base },
    data: { sha256: data },
    method: { kind: 'lora', r: rank, alpha: 2 * rank, targets: [...LORA_TARGETS] },
    optim: {
      kind: 'adamw',
      learningRate,
      schedule: 'linear',
      warmupSteps,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0,
      clipNorm: 1,
    },
    batch: { examples },
    seed,
    steps,
    segmentSteps,
    dtype: 'f32',
  };
}

/**
 * Not half a character.
 *
 * @param {string} content
 */
export const isText = (content) => !/\p{Surrogate}/u.test(content);

/**
 * Lines of a file to train on.
 *
 * @param {object} wish
 * @param {number} wish.count
 * @param {number | string} [wish.seed]
 * @param {(expected: string) => string} [wish.answer] What the assistant says, of what is expected.
 */
export function trainingLines({ count, seed, answer = (expected) => expected }) {
  return teachingItems({ count: count + SPARE, ...(seed === undefined ? {} : { seed }) })
    .map(({ messages, expected }) => [...messages, { role: 'assistant', content: answer(expected) }])
    .filter((messages) => messages.every(({ content }) => isText(content)))
    .slice(0, count)
    .map((messages) => JSON.stringify({ messages }));
}
