/**
 * How requests are phrased: patterns such as `[Sort|Order] the list: {x}` stand for all their expansions. A family uses
 * at most {@link WORDINGS_MAX} of them, and one in {@link WORDINGS_HELD_ONE_IN} is never seen in training.
 */

import { hashText } from './chance.mjs';

export const WORDINGS_MAX = 48;
export const WORDINGS_HELD_ONE_IN = 6;

/** All texts a pattern stands for; alternatives may not be nested. */
export function expand(pattern) {
  const open = pattern.indexOf('[');
  if (open < 0) return [pattern];
  const close = pattern.indexOf(']', open);
  const rest = expand(pattern.slice(close + 1));
  return pattern
    .slice(open + 1, close)
    .split('|')
    .flatMap((choice) => rest.map((tail) => pattern.slice(0, open) + choice + tail));
}

/**
 * The family's wordings, parted into trained and held out.
 *
 * Patterns take turns, so that one with many expansions cannot crowd out the others; within a pattern the hash decides.
 */
export function wordingsOf(family, patterns) {
  const piles = patterns.map((pattern) =>
    expand(pattern).sort((a, b) => hashText(`wording:${family}:${a}`) - hashText(`wording:${family}:${b}`)),
  );
  const chosen = [];
  for (let round = 0; chosen.length < WORDINGS_MAX && piles.some((pile) => pile.length > round); round++) {
    for (const pile of piles) if (pile.length > round && chosen.length < WORDINGS_MAX) chosen.push(pile[round]);
  }
  const order = [...chosen].sort((a, b) => hashText(`held:${family}:${a}`) - hashText(`held:${family}:${b}`));
  const held = order.slice(0, Math.floor(order.length / WORDINGS_HELD_ONE_IN));
  return { trained: chosen.filter((wording) => !held.includes(wording)), held };
}

/** Puts the slots' values into a wording. */
export function fill(wording, slots) {
  return wording.replace(/\{(\w+)\}/g, (_, name) => {
    const value = slots[name];
    if (value === undefined)
      throw new Error(`Wording '${wording}' wants the slot '${name}', which its family does not fill.`);
    return String(value);
  });
}
