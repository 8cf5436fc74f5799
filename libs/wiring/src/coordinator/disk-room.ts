import { freeMibOf } from '../embedded/data-folder.ts';

/** A request asks a thousand times a second, a disk does not change as fast. */
const REMEMBERED_MS = 500;

/** How much room the coordinator's disk has, against what must stay free. */
export class DiskRoom {
  readonly minMib: number;
  readonly #folder: string;
  #seen: { readonly freeMib: number; readonly atMs: number } | null = null;

  constructor(folder: string, minMib: number) {
    this.#folder = folder;
    this.minMib = minMib;
  }

  get freeMib(): number {
    const nowMs = performance.now();
    if (this.#seen === null || nowMs - this.#seen.atMs > REMEMBERED_MS)
      this.#seen = { freeMib: freeMibOf(this.#folder), atMs: nowMs };
    return this.#seen.freeMib;
  }
}
