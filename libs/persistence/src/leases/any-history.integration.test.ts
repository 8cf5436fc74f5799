import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { GrantedLease } from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { LEASE_MS, MarketWorld, ROW_PRICE } from '../../test/market-world.ts';
import { runDoctor } from '../doctor/index.ts';

let market: MarketDatabase;
let world: MarketWorld;
let nodes: string[];
beforeAll(async () => {
  market = await marketDatabase({ poolSize: 8 });
  world = new MarketWorld(market.database);
  nodes = [await world.node(), await world.node(), await world.node()];
}, 30_000);
afterAll(() => market.close());

const ROWS = 40;
const pick = fc.nat({ max: 1_000 });
function repeat<const T>(times: number, ...items: readonly T[]): T[] {
  return items.flatMap((item) => Array.from({ length: times }, () => item));
}

/** What can happen to the leases of a job, in any order; `pick` chooses which lease, node or row it happens to. */
const event = fc.record({
  what: fc.constantFrom(
    ...repeat(5, 'grant', 'deliver', 'accept'),
    ...repeat(2, 'checkpoint', 'lose'),
    ...repeat(1, 'yield', 'refuse', 'reject', 'poison', 'expire', 'cancel'),
  ),
  pick,
  size: fc.integer({ min: 1, max: 15 }),
  /** Done at the same time as the event after it. */
  racing: fc.boolean(),
});
type Event = typeof event extends fc.Arbitrary<infer T> ? T : never;

class History {
  readonly leases: GrantedLease[] = [];
  readonly job: string;

  constructor(job: string) {
    this.job = job;
  }

  async happen({ what, pick: n, size }: Event): Promise<void> {
    const { store } = world;
    // Mostly one of the last three, sometimes one that is long over.
    const lease = n % 6 === 0 ? this.leases[n % Math.max(1, this.leases.length)] : this.leases.at(-1 - (n % 3));
    if (what === 'grant') return this.#grant(n, size);
    if (what === 'poison') return void (await store.failPoison(3));
    if (what === 'expire' || what === 'cancel') return n % 12 === 0 ? this.#end(what) : undefined;
    if (lease === undefined) return;
    if (what === 'checkpoint' || what === 'deliver') return this.#checkpoint(lease, what === 'deliver' ? ROWS : size);
    if (what === 'accept') return this.#accept(n % 4 === 0 ? lease : undefined);
    if (what === 'reject') return void (await store.reject(lease, 'bad', n % 2, 0));
    await store.giveBack(lease, what, what);
  }

  async #grant(n: number, size: number): Promise<void> {
    const [open] = (await world.store.demand(1_000, 10)).filter(({ jobId }) => jobId === this.job);
    if (open === undefined) return;
    const node = nodes[n % nodes.length] ?? '';
    const [back] = open.queued;
    const end = Math.min(open.nextRow + size, open.rowCount);
    const wish =
      back === undefined || n % 3 === 0
        ? world.wish(this.job, node, open.nextRow, end)
        : world.wish(this.job, node, back.rowFrom, back.rowTo, { task: back.taskId, epoch: back.epoch });
    if (wish.rowTo > wish.rowFrom) this.leases.push(...(await world.store.grant([wish], LEASE_MS)));
  }

  /** A given lease, or whichever waits for its verdict. */
  async #accept(given: LeaseRef | undefined): Promise<void> {
    const [waiting] = await market.database.query<LeaseRef>(
      `SELECT id AS task, epoch FROM task WHERE job_id = $1 AND state = 'delivered' LIMIT 1`,
      [this.job],
    );
    const lease = given ?? waiting;
    if (lease !== undefined) await world.accept(lease).catch(ignoreInconsistent);
  }

  async #checkpoint(lease: GrantedLease, upTo: number): Promise<void> {
    const view = await world.store.view(lease);
    if (view === null) return;
    const from = view.checkpointRows;
    const n = Math.min(view.rowTo - view.rowFrom, from + upTo);
    if (n > from)
      await world.store.checkpoint(lease, world.rows(lease, from, n, [3, 17]), {
        ...world.at(lease, n),
        last: n === view.rowTo - view.rowFrom,
      });
  }

  async #end(how: 'expire' | 'cancel'): Promise<void> {
    await world.end(this.job, how);
    await world.store.expireJobs();
  }
}

/** A racing event may change the lease between its reading and its acceptance: then the store must refuse, loudly, and charge nothing. */
function ignoreInconsistent(error: unknown): void {
  if (!/Nothing was charged|whole bytes/.test(String(error))) throw error;
}

it('leaves the books clean after any history of leases: nothing billed twice, above the cap, or for rows that ended otherwise', async () => {
  let accepted = 0;
  let races = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(event, { minLength: 30, maxLength: 60 }),
      fc.integer({ min: 0, max: ROWS }),
      async (events, paidRows) => {
        const job = await world.batch(ROWS, { cap: ROW_PRICE * BigInt(paidRows) });
        const history = new History(job);
        for (let i = 0; i < events.length; i += 1) {
          const [now, next] = [events[i], events[i + 1]];
          if (now === undefined) break;
          if (now.racing && next !== undefined) {
            await Promise.all([history.happen(now), history.happen(next)]);
            i += 1;
            races += 1;
          } else await history.happen(now);
        }
        const [facts] = await market.database.query<{ receipts: number; rows: number; distinct_rows: number }>(
          `SELECT count(*)::int AS receipts, coalesce(sum(r.rows), 0)::int AS rows,
           (SELECT count(*)::int FROM job_row WHERE job_id = $1 AND task_id IS NOT NULL) AS distinct_rows
         FROM receipt r WHERE r.job_id = $1`,
          [job],
        );
        expect(facts?.rows).toBe(facts?.distinct_rows);
        accepted += facts?.receipts ?? 0;
      },
    ),
    { numRuns: 16, seed: 74, endOnFailure: true },
  );
  // One look over all histories: a doctor a history would take longer than the histories.
  expect((await runDoctor(market.database)).violations).toEqual([]);
  expect(accepted).toBeGreaterThan(20);
  expect(races).toBeGreaterThan(50);
}, 120_000);
