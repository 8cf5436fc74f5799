/**
 * Seeded chance and the split of contents. Everything the corpus draws comes from here, so that a seed names a corpus
 * on every machine and in every Node version.
 */

// Taken out of the global once: under a test runner every look at a global costs more than the arithmetic.
const { floor, imul } = Math;

/** Mixes 32 bits so that neighbouring inputs land far apart. */
function mix(value) {
  let x = value | 0;
  x = imul(x ^ (x >>> 15), 0x2c1b3c6d);
  x = imul(x ^ (x >>> 12), 0x297a2d39);
  return (x ^ (x >>> 15)) >>> 0;
}

/** A 32-bit hash of a text's UTF-16 units: it decides sides and orders, nothing depends on it for security. */
export function hashText(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = imul(h ^ text.charCodeAt(i), 0x01000193);
  return mix(h);
}

/** One in this many contents is held out of training. */
export const HELD_OUT_ONE_IN = 10;

/** Which side of the split a content lies on: by its own hash, so that no seed can move it into training. */
export function sideOf(key) {
  return hashText(`side:${key}`) % HELD_OUT_ONE_IN === 0 ? 'held' : 'train';
}

export class Chance {
  #state;

  /** @param seed Text or number: equal seeds draw equal corpora. */
  constructor(seed) {
    this.#state = hashText(`chance:${seed}`);
  }

  /** An integer in [0, below). */
  below(below) {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    return floor((mix(this.#state ^ 0x5bf03635) / 4294967296) * below);
  }

  /** An integer in [low, high]. */
  between(low, high) {
    return low + this.below(high - low + 1);
  }

  /** True this often. */
  often(probability) {
    return this.below(1_000_000) < probability * 1_000_000;
  }

  one(list) {
    return list[this.below(list.length)];
  }

  /** `count` different members of the list, in chance order. */
  some(list, count) {
    const rest = [...list];
    const out = [];
    while (out.length < count && rest.length > 0) out.push(rest.splice(this.below(rest.length), 1)[0]);
    return out;
  }

  /** A non-negative integer of at most `digits` digits: every length is equally likely, so that small ones are not rare. */
  number(digits) {
    const length = this.between(1, digits);
    return length === 1 ? this.below(10) : this.between(10 ** (length - 1), 10 ** length - 1);
  }
}

/** Draws until the content lies on the wanted side of the split. */
export function onSide(split, draw, keyOf) {
  for (let tries = 0; tries < 10_000; tries++) {
    const value = draw();
    if (sideOf(keyOf(value)) === split) return value;
  }
  throw new Error(`No content of the side '${split}' in 10,000 draws: the family's contents are too few to split.`);
}
