import { chance, type Chance } from '@freehold/domain';

/** Everything that is left to chance in a run. Each part of the world throws its own dice, so that one more throw here moves nothing there. */
export class Dice {
  readonly #seed: number;
  readonly #chance: Chance;

  constructor(seed: number) {
    this.#seed = seed;
    this.#chance = chance(seed);
  }

  for(name: string): Dice {
    let hash = (0x811c9dc5 ^ this.#seed) >>> 0;
    for (const char of name) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
    return new Dice(hash);
  }

  /** True in so many of 1 cases. */
  isHit(share: number): boolean {
    return this.#chance.unit() < share;
  }

  unit(): number {
    return this.#chance.unit();
  }

  between(from: number, to: number): number {
    return from + this.#chance.below(to - from + 1);
  }

  pick<T>(from: readonly T[]): T {
    return this.#chance.pick(from);
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.#chance.below(256));
  }

  hex(length: number): string {
    return Buffer.from(this.bytes(length)).toString('hex');
  }

  uuid(): string {
    const hex = this.hex(16);
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
  }
}
