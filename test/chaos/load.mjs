import { setTimeout as sleep } from 'node:timers/promises';
import { batchLines, submitBatch, terminalRecords } from './job.mjs';

const LOOK_MS = 300;
/** Whatever was broken is mended by then: a house in which nothing ends for as long has stopped for good. */
const STILL_MS = 240_000;
const ENDED = ['completed', 'failed', 'expired', 'cancelled'];

/**
 * Batches, `parallel` at a time, until `jobs` were submitted and nobody wants more: so a fast machine cannot outrun the faults,
 * it runs more rows under them. Each is judged by its files as soon as it has ended.
 */
export class Load {
  /** `{id, job, records}` of every batch that ended. */
  batches = [];
  submitted = 0;
  #wanted = true;
  #movedMs = performance.now();
  #parts;

  constructor({ house, db, profile, say, inTime }) {
    this.#parts = { house, db, profile, say, inTime };
    this.done = Promise.all(Array.from({ length: profile.parallel }, () => this.#lane()));
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

  async #end(id) {
    const { db, inTime } = this.#parts;
    for (;;) {
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
      if (ENDED.includes(job?.state)) return job;
      const now = `batch ${id} is ${job?.state ?? 'unknown'}`;
      inTime(now);
      if (performance.now() - this.#movedMs > STILL_MS)
        throw new Error(`no batch has ended for ${STILL_MS / 1_000} s: ${now}`);
      await sleep(LOOK_MS);
    }
  }
}
