import type { Escrow } from './ports/escrow.ts';
import type { PayoutGate } from './ports/payout-gate.ts';

export interface GuardPorts {
  readonly escrow: Escrow;
  readonly gate: PayoutGate;
}

/** Comparing reads every order and payee of the book: not at every turn. */
export const COMPARE_EVERY_MS = 10_000;

export interface Guarded {
  /** Why no money may leave; null when it may. */
  readonly halted: string | null;
  /** Whether this look is what halted or resumed them. */
  readonly changed: boolean;
}

/**
 * Compares the escrow with the ledger at one and the same block, before money leaves. A difference halts payouts until it is
 * gone, or until an operator has looked into it and taken exactly this difference on.
 *
 * What cannot be compared (the endpoint is away, the block is not on the chain any more) changes nothing: payouts stay as
 * they are, and the next turn looks again.
 */
export async function guardPayouts(ports: GuardPorts): Promise<Guarded> {
  const state = await ports.gate.state();
  const stays = { halted: state.halted?.why ?? null, changed: false };
  if (state.halted?.by === 'operator') return stays;
  const compared = await compare(ports);
  if (compared === null) return stays;
  const difference = compared.escrow - compared.ledger;
  const isRight = difference === state.accepted;
  if (isRight === (state.halted === null)) return stays;
  const why = isRight ? null : mismatch(compared, difference, state.accepted);
  const halted = why === null ? null : ({ by: 'reconciler', why } as const);
  const changed = await ports.gate.move(state, { halted, accepted: state.accepted });
  return { halted: changed ? why : stays.halted, changed };
}

interface Compared {
  readonly block: bigint;
  readonly escrow: bigint;
  readonly ledger: bigint;
}

/** Null when the chain and the ledger do not stand at one block now. */
async function compare({ escrow, gate }: GuardPorts): Promise<Compared | null> {
  const booked = await gate.booked();
  if (booked === null || (await escrow.hashOf(booked.block.number)) !== booked.block.hash) return null;
  const { lanes, balances, bond } = await escrow.holdings(booked.block.number);
  return { block: booked.block.number, escrow: lanes + balances + bond, ledger: booked.escrow };
}

function mismatch({ block, escrow, ledger }: Compared, difference: bigint, accepted: bigint): string {
  const taken = accepted === 0n ? '' : ` (a difference of ${accepted} was taken on before)`;
  return `at block ${block} the escrow holds ${escrow} and the ledger says ${ledger}, a difference of ${difference}${taken}. Epochs are still posted; nothing is finalised, withdrawn or refunded. Run "freehold doctor", find out where it comes from (another endpoint may show another chain), then repair it, or take it on with "freehold payouts resume --accept ${difference}".`;
}
