/** Blocks of prompts that an engine holds; the one that was used least recently leaves first. */
export class PrefixCache {
  readonly #held = new Set<number>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  /** How many of these are held from the first on. */
  prefix(blocks: readonly number[]): number {
    const end = blocks.findIndex((block) => !this.#held.has(block));
    return end === -1 ? blocks.length : end;
  }

  use(blocks: readonly number[]): void {
    for (const block of blocks) {
      this.#held.delete(block);
      this.#held.add(block);
    }
    for (const oldest of this.#held) {
      if (this.#held.size <= this.#max) return;
      this.#held.delete(oldest);
    }
  }

  clear(): void {
    this.#held.clear();
  }
}
