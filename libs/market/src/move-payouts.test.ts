import { expect, it } from '@jest/globals';
import { movePayouts } from './move-payouts.ts';
import { PayoutGate, type PayoutState } from './ports/payout-gate.ts';

/** A gate that others move `beaten` times right before we do. */
class ContendedGate extends PayoutGate {
  now: PayoutState = { halted: null, accepted: 0n };
  asked = 0;
  #beaten: number;

  constructor(beaten: number) {
    super();
    this.#beaten = beaten;
  }

  async state(): Promise<PayoutState> {
    return this.now;
  }
  async move(from: PayoutState, to: Parameters<PayoutGate['move']>[1]): Promise<boolean> {
    this.asked += 1;
    if (this.#beaten > 0) {
      this.#beaten -= 1;
      this.now = { ...this.now, accepted: this.now.accepted + 1n };
    }
    if (from !== this.now) return false;
    this.now = { halted: to.halted === null ? null : { ...to.halted, since: 'now' }, accepted: to.accepted };
    return true;
  }
  async booked(): Promise<null> {
    return null;
  }
}

const halt = ({ accepted }: PayoutState) => ({ halted: { by: 'operator', why: 'looking' } as const, accepted });

it('moves the gate from what it is when it succeeds, not from what it was at first', async () => {
  const gate = new ContendedGate(3);
  expect(await movePayouts(gate, halt)).toEqual({
    halted: { by: 'operator', why: 'looking', since: 'now' },
    accepted: 3n,
  });
  expect(gate.asked).toBe(4);
});

it('gives up with the reason when it never gets its turn', async () => {
  const gate = new ContendedGate(Number.POSITIVE_INFINITY);
  await expect(movePayouts(gate, halt)).rejects.toThrow(/moved by others 20 times.*Nothing was changed/);
  expect(gate.now.halted).toBeNull();
});
