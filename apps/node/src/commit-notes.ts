import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { keepNewest } from '@freehold/domain';
import { AmountText, leaseKey, type LeaseRef } from '@freehold/protocol';
import { z } from 'zod';
import { readIfThere, writeDurably } from './durable-files.ts';

/** Commitments that wait for their verdict at one time; of more, some are written twice. */
const COMMITTED_MAX = 4_096;
/** Work that waits for its voucher at one time; of more, the oldest is judged as if nothing was known of it. */
const SIGNED_MAX = 8_192;

/** The highest totals that the node had, by book and epoch, when it signed a piece of work: its voucher comes after them. */
const TotalsThen = z.record(z.string(), AmountText);
export type TotalsThen = z.infer<typeof TotalsThen>;
const Note = z.looseObject({ totals: TotalsThen });

/** The coordinator's signed words for work without a verdict, `commits/<task>.<epoch>.json`, and what was promised before that work. */
export class CommitNotes {
  readonly #folder: string;
  /** Commitments whose evidence this process has written, not to write it twice. */
  readonly #committed = new Map<string, { readonly text: string; readonly written: Promise<void> }>();
  readonly #signed = new Map<string, { readonly totals: TotalsThen; readonly isWhole: boolean }>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Work is about to leave under our signature. Of a part the first signature counts, and what is sent again was signed before. */
  signing(lease: LeaseRef, totals: TotalsThen, isWhole: boolean): void {
    const key = leaseKey(lease);
    const before = this.#signed.get(key);
    if (before !== undefined && (before.isWhole || !isWhole)) return;
    keepNewest(this.#signed, key, { totals, isWhole }, SIGNED_MAX);
  }

  async keep(lease: LeaseRef, evidence: Record<string, unknown>): Promise<void> {
    const key = leaseKey(lease);
    const text = JSON.stringify(evidence);
    const before = this.#committed.get(key);
    // The verdict countersigns again, word for word.
    if (before?.text === text) return await before.written;
    // One after the other: two processes of a coordinator may say it at once.
    const written = (before?.written ?? Promise.resolve())
      .catch(() => undefined)
      .then(async () => {
        const totals = await this.#read(key);
        await writeDurably(this.#path(key), totals === null ? text : JSON.stringify({ ...evidence, totals }));
      });
    written.catch(() => this.#committed.delete(key));
    keepNewest(this.#committed, key, { text, written }, COMMITTED_MAX);
    await written;
  }

  /** The evidence goes. What was promised before the work stays known: an acceptance without a voucher may be followed by one. */
  async forget(lease: LeaseRef): Promise<void> {
    const key = leaseKey(lease);
    const before = this.#committed.get(key);
    this.#committed.delete(key);
    // Else what is being written would be there afterwards.
    await before?.written.catch(() => undefined);
    await rm(this.#path(key), { force: true });
  }

  /** Null: this node knows of no such work, or only what an older one wrote. */
  async totals(lease: LeaseRef): Promise<TotalsThen | null> {
    const key = leaseKey(lease);
    await this.#committed.get(key)?.written.catch(() => undefined);
    return await this.#read(key);
  }

  /** The file first: after a restart the same work is signed again, and later. */
  async #read(key: string): Promise<TotalsThen | null> {
    const inMemory = this.#signed.get(key)?.totals ?? null;
    try {
      const note = Note.safeParse(JSON.parse((await readIfThere(this.#path(key))) ?? 'null'));
      return note.success ? note.data.totals : inMemory;
    } catch {
      // Damaged, it says as much as none.
      return inMemory;
    }
  }

  #path(key: string): string {
    return join(this.#folder, `${key}.json`);
  }
}
