import { setTimeout as sleep } from 'node:timers/promises';
import { batchLines, submitBatch, terminalRecords } from './job.mjs';

/**
 * @import pg from 'pg'
 * @import { House } from '../../apps/devnet/dist/house/house.js'
 * @import { Profile } from './profiles.mjs'
 *
 * @typedef {object} LoadParts
 * @property {House} house
 * @property {pg.Pool} db
 * @property {Profile} profile
 * @property {(text: string) => void} say
 * @property {(where: string) => void} inTime Throws when the run takes too long.
 *
 * @typedef {{ state: string; rows_succeeded: number; cap: string; charged: string }} EndedJob
 * @typedef {{ readonly id: string; readonly job: EndedJob; readonly records: Awaited<ReturnType<typeof terminalRecords>> }} EndedBatch
 */

const LOOK_MS = 300;
/** Whatever was broken is mended by then: a house in which nothing ends for as long has stopped for good. */
const STILL_MS = 240_000;
const ENDED = ['completed', 'failed', 'expired', 'cancelled'];

/**
 * Batches, `parallel` at a time, until `jobs` were submitted and nobody wants more: so a fast machine cannot outrun the faults,
 * it runs more rows under them. Each is judged by its files as soon as it has ended.
 */
export class Load {
  /** Every batch that ended. @type {EndedBatch[]} */
  batches = [];
  submitted = 0;
  #wanted = true;
  #movedMs = performance.now();
  #parts;

  /** @param {LoadParts} parts */
  constructor(parts) {
    this.#parts = parts;
    this.done = Promise.all(Array.from({ length: parts.profile.parallel }, () => this.#lane()));
    // Whoever waits for it hears of a failure; until then it is not unhandled.
    this.done.catch(() => undefined);
  }

  /** The faults are over: no batch beyond the profile's number is submitted any more. */
  enough() {
    this.#wanted = false;
  }

  async #lane() {
    const { house, profile, say } = this.#parts;
    while (this.#wanted || this.submitted < profile.jobs) {
      const number = this.submitted++;
      const id = await submitBatch(house, batchLines(profile.rows, number), number);
      if (profile.rows > 1) say(`batch ${number + 1} is submitted`);
      const job = await this.#end(id);
      this.#movedMs = performance.now();
      this.batches.push({ id, job, records: await terminalRecords(house, id, profile.rows) });
      if (this.batches.length % 500 === 0) say(`${this.batches.length} batches have ended`);
    }
  }

  /**
   * @param {string} id
   * @returns {Promise<EndedJob>}
   */
  async #end(id) {
    const { db, inTime } = this.#parts;
    for (;;) {
      /** @type {EndedJob | undefined} */
      const job = await db
        .query(
          'SELECT state, row_count, rows_succeeded, rows_failed, rows_ended, cap, charged FROM job WHERE id = $1',
          [id],
        )
        .then(
          ({ rows }) => rows[0],
          // Postgres is away on purpose.
          () => undefined,
        );
      if (job !== undefined && ENDED.includes(job.state)) return job;
      const now = `batch ${id} is ${job?.state ?? 'unknown'}`;
      inTime(now);
      if (performance.now() - this.#movedMs > STILL_MS)
        throw new Error(`no batch has ended for ${STILL_MS / 1_000} s: ${now}`);
      await sleep(LOOK_MS);
    }
  }
}
