import { expect, it } from '@jest/globals';
import type { ExitPlan, ExitStep } from './exit-plan.ts';
import { ExitDoor, leaveBook } from './leave-book.ts';

const FINALISE: ExitStep = { do: 'finalise', epoch: 1n };
const WITHDRAW: ExitStep = { do: 'withdraw', amount: 5n };

/** A chain on which every step is done when it was performed, unless it refuses it. */
class Door extends ExitDoor {
  readonly sent: string[] = [];
  steps: ExitStep[];
  readonly #refused: string | null;

  constructor(steps: ExitStep[], refused: string | null = null) {
    super();
    this.steps = steps;
    this.#refused = refused;
  }
  plan(): Promise<ExitPlan> {
    return Promise.resolve({ owed: 5n, steps: [...this.steps], waits: [], lost: [] });
  }
  refusal(step: ExitStep): Promise<string | null> {
    return Promise.resolve(step.do === this.#refused ? 'Paused()' : null);
  }
  perform(step: ExitStep): Promise<{ hash: string }> {
    this.sent.push(step.do);
    this.steps = this.steps.slice(1);
    return Promise.resolve({ hash: `0x${this.sent.length}` });
  }
}

it('does one step after the other, each from a fresh plan, and tells each', async () => {
  const door = new Door([FINALISE, WITHDRAW]);
  const told: string[] = [];
  const left = await leaveBook(door, (step, hash) => told.push(`${step.do} ${hash}`));
  expect(left).toMatchObject({ refused: null, plan: { steps: [] } });
  expect(told).toEqual(['finalise 0x1', 'withdraw 0x2']);
});

it('does not send a step that would revert, nor what comes after it', async () => {
  const door = new Door([FINALISE, WITHDRAW], 'withdraw');
  const left = await leaveBook(door, () => undefined);
  expect(left).toMatchObject({ refused: { step: WITHDRAW, why: 'Paused()' }, did: [{ step: FINALISE }] });
  expect(door.sent).toEqual(['finalise']);
});

it('stops at a chain that never shows what was sent', async () => {
  class Stale extends Door {
    override perform(): Promise<{ hash: string }> {
      return Promise.resolve({ hash: '0x' });
    }
  }
  await expect(leaveBook(new Stale([WITHDRAW]), () => undefined)).rejects.toThrow('is the endpoint stale?');
});
