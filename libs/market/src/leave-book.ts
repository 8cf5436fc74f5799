import type { ExitPlan, ExitStep } from './exit-plan.ts';

/** What one wallet sees of a book, and does to it. */
export abstract class ExitDoor {
  /** From the chain as it is now. */
  abstract plan(): Promise<ExitPlan>;
  /** Why the step would revert if it was sent now; null when it would not. */
  abstract refusal(step: ExitStep): Promise<string | null>;
  /** Sends the step and waits until it is mined. */
  abstract perform(step: ExitStep): Promise<{ readonly hash: string }>;
}

export interface Left {
  readonly plan: ExitPlan;
  readonly did: readonly { readonly step: ExitStep; readonly hash: string }[];
  /** Set when a step of the plan would have reverted: nothing was sent. */
  readonly refused: { readonly step: ExitStep; readonly why: string } | null;
}

/** More steps than any exit has: a chain that never shows what was sent must not be asked for ever. */
const STEPS_MAX = 10_000;

/**
 * Does what can be done now, one step at a time, each from a fresh look at the chain: it may be cut anywhere and run again,
 * and a step that would revert is not sent.
 */
export async function leaveBook(door: ExitDoor, told: (step: ExitStep, hash: string) => void): Promise<Left> {
  const did: { step: ExitStep; hash: string }[] = [];
  for (;;) {
    const plan = await door.plan();
    const [step] = plan.steps;
    if (step === undefined) return { plan, did, refused: null };
    const why = await door.refusal(step);
    if (why !== null) return { plan, did, refused: { step, why } };
    const { hash } = await door.perform(step);
    did.push({ step, hash });
    told(step, hash);
    if (did.length >= STEPS_MAX)
      throw new Error(`${STEPS_MAX} steps were sent and the chain still asks for more: is the endpoint stale?`);
  }
}
