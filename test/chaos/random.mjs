/** @typedef {ReturnType<typeof seeded>} Random */

/**
 * A small seeded generator (mulberry32): the same seed breaks the same things in the same order.
 *
 * @param {number} seed
 */
export function seeded(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  /**
   * @template T
   * @param {readonly T[]} items
   */
  const shuffled = (items) => {
    const deck = [...items];
    for (let i = deck.length - 1; i > 0; i -= 1) {
      const j = Math.floor(next() * (i + 1));
      [deck[i], deck[j]] = [deck[j], deck[i]];
    }
    return deck;
  };
  return {
    next,
    shuffled,
    between: (/** @type {number} */ low, /** @type {number} */ high) => low + (high - low) * next(),
    /**
     * @template T
     * @param {readonly T[]} items
     */
    pick: (items) => items[Math.floor(next() * items.length)],
  };
}
