import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { dueFor, type Rates } from '@freehold/domain';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { MarketWorld } from '../../test/market-world.ts';
import { runDoctor } from '../doctor/index.ts';

let market: MarketDatabase;
let world: MarketWorld;
let node: string;
beforeAll(async () => {
  market = await marketDatabase();
  world = new MarketWorld(market.database);
  node = await world.node();
}, 30_000);
afterAll(() => market.close());

/** A row of 10 tokens is worth 0.3: alone it rounds to nothing. */
const CHEAP: Rates = { embeddingToken: 30_000n };

it('charges each lease at least one unit while the cap lasts, never more, and leases, ledger and vouchers add up', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 5 }),
      fc.bigInt({ min: 0n, max: 8n }),
      async (sizes, cap) => {
        const org = await world.org();
        await world.openBook(org, `0x${Buffer.from(org.padEnd(32, '.')).subarray(0, 32).toString('hex')}`);
        const job = await world.batch(
          sizes.reduce((sum, size) => sum + size, 0),
          { org, cap },
        );
        await market.database.query(`UPDATE chain_order SET is_operator = true WHERE org_id = $1`, [org]);
        let row = 0;
        let charged = 0n;
        for (const size of sizes) {
          const lease = await world.lease(job, node, row, row + size);
          await world.deliver(lease);
          const due = dueFor({ embeddingToken: 10n * BigInt(size) }, CHEAP);
          const accepted = await world.store.accept({
            ...(await world.acceptance(lease)),
            audited: 0,
            draw: 'none',
            due,
          });
          const left = cap - charged;
          expect(accepted).toMatchObject({ moved: true, charge: due < left ? due : left });
          expect(due).toBeGreaterThan(0n);
          charged += accepted.moved ? accepted.charge : 0n;
          row += size;
        }
        const [sums] = await market.database.query(
          `SELECT job.charged::text AS job, sum(r.charge)::text AS receipts, coalesce(sum(v.gross), 0)::text AS vouchers,
             (SELECT coalesce(-sum(p.amount), 0)::text FROM posting p JOIN account a ON a.id = p.account_id
              JOIN ledger_transaction tx ON tx.id = p.transaction_id
              WHERE a.kind = 'hold' AND a.owner = job.id AND tx.kind = 'charge') AS ledger
           FROM job JOIN receipt r ON r.job_id = job.id LEFT JOIN voucher v ON v.task_id = r.task_id
           WHERE job.id = $1 GROUP BY job.id`,
          [job],
        );
        const all = String(charged);
        expect(sums).toEqual({ job: all, receipts: all, vouchers: all, ledger: all });
        expect(charged <= cap).toBe(true);
      },
    ),
    { numRuns: 12 },
  );
  const money = (await runDoctor(market.database)).violations.filter(({ check }) => check !== 'paid-without-verdict');
  expect(money).toEqual([]);
});
