import type { PayoutGate, PayoutState } from './ports/payout-gate.ts';

/** The reconciler moves the gate at most once in ten seconds, an operator by hand: whoever loses so often meets a fault. */
const TRIES_MAX = 20;

/** Moves the gate of payouts from whatever it is to what `to` makes of that, also while others move it. */
export async function movePayouts(
  gate: PayoutGate,
  to: (before: PayoutState) => Parameters<PayoutGate['move']>[1],
): Promise<PayoutState> {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const before = await gate.state();
    if (await gate.move(before, to(before))) return await gate.state();
  }
  throw new Error(
    `The gate of payouts was moved by others ${TRIES_MAX} times in a row, or what is stored under "payouts" is not what this version writes. Nothing was changed; look at "freehold payouts status" and try again.`,
  );
}
