import { heldOutItems, MODEL_ID, SURE_FAMILIES } from '../../../../models/freehold-tiny/index.mjs';

/** A question whose answer can be checked, about contents the model never saw in training. */
export interface ChatQuestion {
  readonly customId: string;
  readonly family: string;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly expected: string;
}

export const CHAT_QUESTIONS = 96;
/**
 * The families asked. The job is about whether right answers arrive and wrong ones are caught, not about what a very small model
 * cannot do; the model card says that too.
 */
export const CHAT_FAMILIES = SURE_FAMILIES.filter((family) => family !== 'unknown');
/** Held-out items are drawn from this seed: the same questions in every run. */
const SEED = 2_026;
export const CHAT_MODEL = MODEL_ID;

export function heldOutQuestions(count = CHAT_QUESTIONS): readonly ChatQuestion[] {
  return heldOutItems({ seed: SEED, count, families: CHAT_FAMILIES }).map((item, i) => ({
    customId: `question-${String(i).padStart(3, '0')}`,
    family: item.family,
    messages: item.messages,
    expected: item.expected,
  }));
}

/** Exact match after trimming: the families are closed, so there is one right answer. */
export function isRight(question: ChatQuestion, answer: string): boolean {
  return answer.trim() === question.expected.trim();
}
