import { DomainError } from '@freehold/domain';

/** Largest amount of one lane: 60 bits (about 1.15·10¹² tokens of 10⁻⁶). */
export const LANE_MAX = (1n << 60n) - 1n;
/** Orders of a book; the contract's `ORDERS_MAX`. */
export const ORDERS_MAX = 4_096;
/** Payees of a book; the contract's `PAYEES_MAX`. */
export const PAYEES_MAX = 2_048;

const PER_WORD = 4;
const LANE_BITS = 60n;
const HEAD_BITS = 240n;

/**
 * Packs amounts by index into the words of a posting: four neighbours share one, its head names their place, words rise.
 *
 * Repeated in `contracts/src/libraries/Lanes.sol`; bound by `test/vectors/lanes.json`. Zero amounts are left out: a payee that
 * is not listed is credited nothing.
 */
export function packLanes(amounts: ReadonlyMap<number, bigint>): bigint[] {
  const words = new Map<number, bigint>();
  for (const [index, amount] of amounts) {
    if (!Number.isInteger(index) || index < 0 || index >= ORDERS_MAX)
      throw new DomainError({ code: 'LANE_INDEX', index, max: ORDERS_MAX - 1 });
    if (amount < 0n || amount > LANE_MAX) throw new DomainError({ code: 'LANE_AMOUNT', index, amount, max: LANE_MAX });
    if (amount === 0n) continue;
    const place = Math.floor(index / PER_WORD);
    const word = words.get(place) ?? BigInt(place) << HEAD_BITS;
    words.set(place, word | (amount << (LANE_BITS * BigInt(index % PER_WORD))));
  }
  return [...words].sort(([a], [b]) => a - b).map(([, word]) => word);
}

/** What a posting's words say, by index: the inverse of {@link packLanes}, for words read from the chain. */
export function unpackLanes(words: readonly bigint[]): Map<number, bigint> {
  const amounts = new Map<number, bigint>();
  for (const word of words) {
    const place = Number(word >> HEAD_BITS);
    for (let lane = 0; lane < PER_WORD; lane += 1) {
      const amount = (word >> (LANE_BITS * BigInt(lane))) & LANE_MAX;
      if (amount > 0n) amounts.set(place * PER_WORD + lane, amount);
    }
  }
  return amounts;
}
