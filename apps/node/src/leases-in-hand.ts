import { mkdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type HeldLease, leaseKey, type LeaseRef } from '@freehold/protocol';
import type { LeaseFrame, RowsCall } from '@freehold/wiring/node';
import type { Coordinator, Coordinators } from './coordinators.ts';
import { FOLDER_MODE } from './durable-files.ts';
import { readable } from './kept-json.ts';
import { forgetResults, LeaseJournal, leaseFolders, straysIn, type LeaseHead } from './journal.ts';
import { LeaseRun, type LeaseSurroundings } from './lease-run.ts';
import type { Seat, Seats } from './seats.ts';

/** What no coordinator has asked about for a day is nobody's any more. */
const FORGOTTEN_AFTER_MS = 24 * 3_600_000;
/**
 * Results of leases that are accepted, or may yet be, are kept for so long: the time in which a batch's coordinator may be lost
 * and another take over. Together no more than a disk has to spare beside the leases in hand.
 */
const RESULTS_KEPT = { keptMs: 24 * 3_600_000, bytesMax: 2 * 1_073_741_824 };
/** A day has thousands of leases: they are not all looked at after each. */
const FORGET_EVERY_MS = 600_000;
/** Payloads of all leases together. */
const JOURNAL_BYTES_MAX = 2 * 1_073_741_824;
/** Leases with rows still to run, per slot of the model: one that works, one whose inputs are already here. */
const LEASES_PER_SLOT = 2;
const LEASES_MAX = 200;
const STARVED_MS = 2_000;

export interface LeaseHooks {
  readonly onRows: (key: string, done: number, digest: string) => void;
  /** Rows are about to leave under our signature: all of a lease, or a part. */
  readonly onSigning: (head: LeaseHead, isWhole: boolean) => void;
  readonly onChange: () => void;
  /** The lease leaves our hand unaccepted, with so many rows that the coordinator has under our signature. */
  readonly onLeft: (run: LeaseRun, rows: number) => void;
  readonly bring: (peer: string, sha256: string) => Promise<void>;
  readonly log: (event: string, detail: Record<string, unknown>) => void;
  readonly starvedMs?: number;
}

/** Every lease this node holds anything of: running, or committed and waiting for its verdict. All of it is on the disk. */
export class LeasesInHand {
  readonly #folder: string;
  readonly #results: string;
  readonly #seats: Seats;
  readonly #coordinators: Coordinators;
  readonly #hooks: LeaseHooks;
  readonly #runs = new Map<string, LeaseRun>();
  /** Grants whose journal is being made: a second stream of the same lease waits for it. */
  readonly #starting = new Map<string, Promise<LeaseRun>>();
  #forgotMs = 0;

  private constructor(folder: string, results: string, seats: Seats, coordinators: Coordinators, hooks: LeaseHooks) {
    this.#folder = folder;
    this.#results = results;
    this.#seats = seats;
    this.#coordinators = coordinators;
    this.#hooks = hooks;
  }

  /** Opens the journals that are there and goes on with them, coordinator or not. */
  static async open(
    dataDir: string,
    seats: Seats,
    coordinators: Coordinators,
    hooks: LeaseHooks,
    nowMs: number,
  ): Promise<LeasesInHand> {
    const folder = join(dataDir, 'leases');
    const results = join(dataDir, 'results');
    for (const path of [folder, results]) await mkdir(path, { recursive: true, mode: FOLDER_MODE });
    await readable(results, async () => await forgetResults(results, nowMs, RESULTS_KEPT));
    for (const file of (await readable(folder, async () => await straysIn(folder))) ?? [])
      hooks.log('lease-stray', { file, then: 'it is no lease, and left alone' });
    const leases = new LeasesInHand(folder, results, seats, coordinators, hooks);
    for (const { folder: lease, changedMs } of (await readable(folder, async () => await leaseFolders(folder))) ?? [])
      await readable(lease, async () => await leases.#restore(lease, nowMs - changedMs));
    return leases;
  }

  get all(): readonly LeaseRun[] {
    return [...this.#runs.values()];
  }

  get active(): number {
    return this.all.filter((run) => run.active).length;
  }

  /** When every lease that has come is in a journal, and so among {@link held}. */
  async journalled(): Promise<void> {
    await Promise.allSettled(this.#starting.values());
  }

  held(coordinator: string): HeldLease[] {
    return this.all
      .filter((run) => run.head.coordinator === coordinator && (run.active || run.state === 'committed'))
      .map((run) => run.held());
  }

  find(lease: LeaseRef): LeaseRun | null {
    return this.#runs.get(leaseKey(lease)) ?? null;
  }

  /** The run behind a granted or resumed lease; or the words of a refusal. */
  async take(
    call: RowsCall,
    coordinator: Coordinator,
    refusal: (frame: LeaseFrame) => Seat | { code: string; message: string },
  ): Promise<LeaseRun | { code: string; message: string }> {
    const { lease } = call;
    const key = leaseKey(lease);
    const known = this.#runs.get(key) ?? (await this.#starting.get(key));
    if (known !== undefined) return resumable(known, lease, coordinator);
    if (lease.from > 0)
      return {
        code: 'LEASE_UNKNOWN',
        message: `Nothing of this lease is here, so that row ${lease.from} has no rows before it to sign.`,
      };
    const seat = refusal(lease);
    if ('code' in seat) return seat;
    const busy = this.#runs.size + this.#starting.size;
    // One that waits for a coordinator needs no engine: it must not keep the node from working for another.
    const onSeat = this.all.filter((run) => run.active && !run.starved && run.head.digest === lease.digest).length;
    if (busy >= LEASES_MAX || onSeat >= seat.slots.total * LEASES_PER_SLOT)
      return { code: 'NODE_BUSY', message: `${onSeat} leases are under way on ${seat.slots.total} slots.` };
    const bytes = this.all.reduce((sum, run) => sum + run.bytes, 0);
    if (bytes > JOURNAL_BYTES_MAX)
      return {
        code: 'DISK_FULL',
        message: `${bytes} bytes of leases are kept already; at most ${JOURNAL_BYTES_MAX} are.`,
      };
    return await this.#start(key, lease, coordinator, seat);
  }

  /**
   * The lease is over here: handed back, failed, or taken back. Its rows up to the last checkpoint may still be paid for, and
   * the voucher comes long after this, so that its results stay.
   */
  async drop(lease: LeaseRef, why: string): Promise<void> {
    this.#leave(lease, (run) => run.signedRows);
    await this.#end(lease, 'lease-dropped', { why }, this.#results);
  }

  /** The lease is paid: its inputs go, its results stay for a day, should the coordinator lose them. */
  async accept(lease: LeaseRef): Promise<void> {
    await this.#end(lease, 'lease-accepted', {}, this.#results);
  }

  /** The lease is refused for good and never paid for: nothing of it stays. */
  async reject(lease: LeaseRef): Promise<void> {
    this.#leave(lease, (run) => run.done);
    await this.#end(lease, 'lease-dropped', { why: 'rejected' }, null);
  }

  #leave(lease: LeaseRef, rows: (run: LeaseRun) => number): void {
    const run = this.find(lease);
    if (run !== null) this.#hooks.onLeft(run, rows(run));
  }

  async #end(lease: LeaseRef, event: string, detail: object, keepUnder: string | null): Promise<void> {
    const key = leaseKey(lease);
    const run = this.#runs.get(key);
    if (run === undefined) return;
    this.#runs.delete(key);
    this.#hooks.log(event, { lease: key, ...detail, done: run.done });
    await run.drop(keepUnder);
    await this.#forget(Date.now());
    this.#hooks.onChange();
  }

  async #forget(nowMs: number): Promise<void> {
    if (nowMs - this.#forgotMs < FORGET_EVERY_MS) return;
    this.#forgotMs = nowMs;
    await forgetResults(this.#results, nowMs, RESULTS_KEPT);
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map(async (run) => await run.close()));
  }

  async #start(key: string, lease: LeaseFrame, coordinator: Coordinator, seat: Seat): Promise<LeaseRun> {
    const { task, epoch, nonce, model, digest, engineClass, rates, rows } = lease;
    const head: LeaseHead = {
      coordinator: coordinator.key,
      chainId: coordinator.chainId,
      escrow: coordinator.escrow,
      task,
      epoch,
      nonce,
      model,
      digest,
      engineClass,
      rates,
      rows,
    };
    const starting = LeaseJournal.create(this.#folder, head).then((journal) => {
      const run = new LeaseRun(journal, this.#around(coordinator, seat));
      this.#runs.set(key, run);
      return run;
    });
    this.#starting.set(key, starting);
    try {
      return await starting;
    } finally {
      this.#starting.delete(key);
      this.#hooks.onChange();
    }
  }

  async #restore(folder: string, ageMs: number): Promise<void> {
    const restored = await LeaseJournal.open(folder);
    const mayKeep = restored === null && ageMs <= FORGOTTEN_AFTER_MS;
    const damaged = mayKeep ? await LeaseJournal.salvage(folder, this.#results) : null;
    if (damaged !== null)
      return this.#hooks.log('file-damaged', {
        file: damaged,
        aside: join(this.#results, basename(folder)),
        then: 'the lease is not gone on with; its results are kept for a day',
      });
    const head = restored?.journal.head;
    const seat = head === undefined ? null : this.#seats.find(head.model, head.digest);
    if (restored === null || head === undefined || seat === null || ageMs > FORGOTTEN_AFTER_MS) {
      this.#hooks.log('lease-forgotten', {
        folder,
        why: ageMs > FORGOTTEN_AFTER_MS ? 'too old' : 'unreadable, or its model is not served any more',
      });
      // Without its model no row can be run any more, but those that were may be paid for.
      if (restored !== null && restored.results.length > 0 && ageMs <= FORGOTTEN_AFTER_MS)
        return await restored.journal.keepResults(this.#results);
      await restored?.journal.close();
      await rm(folder, { recursive: true, force: true });
      return;
    }
    const [, , delegate = ''] = head.coordinator.split('/');
    const coordinator = this.#coordinators.at(head.chainId, head.escrow, delegate);
    const run = new LeaseRun(restored.journal, this.#around(coordinator, seat), restored);
    this.#runs.set(run.key, run);
    this.#hooks.log('lease-restored', { lease: run.key, done: run.done, rows: head.rows });
    run.pump();
  }

  #around(coordinator: Coordinator, seat: Seat): LeaseSurroundings {
    return {
      engine: seat.engine,
      slots: seat.slots,
      signer: coordinator.signer,
      starvedMs: this.#hooks.starvedMs ?? STARVED_MS,
      bring: (peer, sha256) => this.#hooks.bring(peer, sha256),
      onSigning: (head, isWhole) => this.#hooks.onSigning(head, isWhole),
      onRows: (key, done) => this.#hooks.onRows(key, done, seat.model.digest),
      onEnd: (run) => void this.#ended(run),
    };
  }

  /** A commit waits for its verdict with its payloads; anything else has said its last word, and goes. */
  async #ended(run: LeaseRun): Promise<void> {
    this.#hooks.log('lease-ended', { lease: run.key, state: run.state, done: run.done, rows: run.head.rows });
    if (run.state === 'committed') return this.#hooks.onChange();
    await this.drop(run.head, run.state);
  }
}

function resumable(
  run: LeaseRun,
  lease: LeaseFrame,
  coordinator: Coordinator,
): LeaseRun | { code: string; message: string } {
  if (run.head.nonce !== lease.nonce || run.head.coordinator !== coordinator.key)
    return { code: 'LEASE_OF_ANOTHER', message: 'The nonce or the coordinator is not that of the lease held here.' };
  if (lease.from > run.done)
    return { code: 'JOURNAL_BEHIND', message: `Row ${lease.from} was asked for; ${run.done} rows are here.` };
  return run;
}
