import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { livedInMarket, type LivedIn } from '../../test/lived-in-market.ts';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { MarketWorld } from '../../test/market-world.ts';
import type { Sql } from '../database.ts';
import type { DoctorFacts } from './check.ts';
import { DOCTOR_CHECKS, examineWith, runDoctor, type DoctorReport } from './doctor.ts';

let market: MarketDatabase;
let lived: LivedIn;
beforeAll(async () => {
  market = await marketDatabase();
  lived = await livedInMarket(new MarketWorld(market.database));
}, 60_000);
afterAll(() => market.close());

class NeverMind extends Error {}

/** What the doctor would say after `damage`, which is undone. Triggers and foreign keys are off: only the doctor is left to see it. */
async function after(damage: (tx: Sql) => Promise<unknown>, facts: DoctorFacts = {}): Promise<DoctorReport> {
  let report: DoctorReport | undefined;
  const undone = market.database.transaction(async (tx) => {
    await tx.query('SET LOCAL session_replication_role = replica');
    await damage(tx);
    report = await examineWith(tx, facts);
    throw new NeverMind();
  });
  await expect(undone).rejects.toThrow(NeverMind);
  if (report === undefined) throw new Error('no report');
  return report;
}

function named(report: DoctorReport): string[] {
  return [...new Set(report.violations.map(({ check }) => check))].sort();
}

it('finds nothing wrong with a market after hours of ordinary trouble', async () => {
  const report = await runDoctor(market.database, { chain: { escrowBalance: 0n } });
  expect(report.violations).toEqual([]);
  expect(report.checks).toBe(DOCTOR_CHECKS.length - 1);
  expect(Object.values(report.byCheck).every((found) => found === 0)).toBe(true);
});

const task = (): string => lived.acceptedTask;

/** Each check, and one way to break exactly what it watches over. */
const DAMAGE: Record<
  string,
  { readonly do: (tx: Sql) => Promise<unknown>; readonly facts?: DoctorFacts; readonly also?: string[] }
> = {
  'task-without-a-way': {
    do: (tx) =>
      tx.query(`DELETE FROM outbox WHERE topic = 'verify' AND message ->> 'task' = $1`, [lived.deliveredTask]),
    facts: { stuckAfterMs: 0 },
  },
  'job-without-a-way': {
    do: (tx) =>
      tx.query(
        `INSERT INTO job (id, org_id, kind, state, endpoint, deadline, created_at)
         SELECT 'batch_stuck', $1, 'batch', 'validating', '/v1/embeddings', now() + interval '1 day', now() - interval '2 minutes'`,
        [lived.org],
      ),
  },
  'lease-unreaped': {
    do: (tx) =>
      tx.query(`UPDATE lease SET lease_until = now() - interval '2 minutes' WHERE task_id = $1`, [lived.runningTask]),
  },
  'row-without-one-end': {
    do: (tx) =>
      tx.query(
        `INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths) VALUES ($1, 20, '{forgotten}', '{0}', '{1}')`,
        [lived.completed],
      ),
  },
  'row-counters': {
    do: (tx) =>
      tx.query('UPDATE job SET rows_succeeded = rows_succeeded - 1, rows_failed = rows_failed + 1 WHERE id = $1', [
        lived.open,
      ]),
  },
  'row-under-wrong-lease': {
    do: (tx) => tx.query('UPDATE row_end SET epoch = epoch + 1 WHERE job_id = $1 AND row_no = 3', [lived.open]),
  },
  'outbox-stuck': {
    do: (tx) =>
      tx.query(`INSERT INTO outbox (topic, message, created_at) VALUES ('place', '{}', now() - interval '2 minutes')`),
  },
  'idempotency-two-jobs': {
    do: async (tx) => {
      await tx.query('ALTER TABLE idempotency DROP CONSTRAINT idempotency_pkey');
      await tx.query(
        `INSERT INTO idempotency (org_id, key, route, body_hash, subject) SELECT $1, 'k', '/v1/batches', '\\x00', n::text FROM generate_series(1, 2) n`,
        [lived.org],
      );
    },
  },
  'illegal-transition': {
    do: (tx) =>
      tx.query(
        `INSERT INTO task_event (task_ids, job_id, epoch, from_state, to_state)
         SELECT ARRAY[id], job_id, epoch, 'accepted', 'delivered' FROM task WHERE id = $1
         UNION ALL SELECT ARRAY[id], job_id, epoch, 'delivered', 'accepted' FROM task WHERE id = $1`,
        [task()],
      ),
  },
  'move-not-logged': {
    do: (tx) => tx.query(`UPDATE task SET state = 'running' WHERE id = $1`, [lived.queuedTask]),
    also: ['task-without-a-way'],
  },
  'refers-to-nothing': {
    do: (tx) =>
      tx.query(
        `INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths) VALUES ('batch_nobodys', 0, '{r}', '{0}', '{1}')`,
      ),
  },
  'tenant-mismatch': {
    do: (tx) => tx.query('UPDATE task SET org_id = $2 WHERE id = $1', [task(), lived.org]),
  },
  'queue-without-outbox': { do: () => Promise.resolve(), facts: { queueEntries: ['999999'] } },
  'billed-without-receipt': {
    do: (tx) => tx.query(`INSERT INTO ledger_transaction (kind, ref) VALUES ('charge', gen_random_uuid()::text)`),
  },
  'billed-twice': {
    do: async (tx) => {
      await tx.query('ALTER TABLE ledger_transaction DROP CONSTRAINT ledger_transaction_kind_ref_key');
      const [second] = await tx.query<{ id: string }>(
        `INSERT INTO ledger_transaction (kind, ref) VALUES ('charge', $1) RETURNING id`,
        [task()],
      );
      await tx.query(
        `INSERT INTO posting (transaction_id, account_id, asset, amount)
         SELECT $2, p.account_id, p.asset, p.amount FROM posting p JOIN ledger_transaction tx ON tx.id = p.transaction_id
         WHERE tx.kind = 'charge' AND tx.ref = $1 AND tx.id <> $2`,
        [task(), second?.id],
      );
      await tx.query(
        'UPDATE account SET balance = (SELECT coalesce(sum(amount), 0) FROM posting WHERE account_id = account.id)',
      );
    },
    also: ['hold-missing'],
  },
  'auditor-pay': {
    do: (tx) => tx.query(`INSERT INTO ledger_transaction (kind, ref) VALUES ('audit-fee', 'nobody')`),
  },
  'accepted-without-charge': {
    do: async (tx) => {
      await tx.query(`DELETE FROM voucher WHERE task_id = $1`, [task()]);
      await tx.query(
        'UPDATE job SET charged = charged - (SELECT charge FROM receipt WHERE task_id = $1) WHERE id = $2',
        [task(), lived.open],
      );
      await tx.query('DELETE FROM receipt WHERE task_id = $1', [task()]);
      await tx.query(
        `DELETE FROM posting USING ledger_transaction tx WHERE tx.id = transaction_id AND tx.kind = 'charge' AND tx.ref = $1`,
        [task()],
      );
      await tx.query(`DELETE FROM ledger_transaction WHERE kind = 'charge' AND ref = $1`, [task()]);
      await tx.query(
        'UPDATE account SET balance = (SELECT coalesce(sum(amount), 0) FROM posting WHERE account_id = account.id)',
      );
    },
  },
  'receipt-epoch': {
    do: (tx) => tx.query(`UPDATE receipt SET root = sha256('another') WHERE task_id = $1`, [task()]),
  },
  'paid-without-verdict': {
    do: (tx) => tx.query('UPDATE lease SET draw_rows = NULL, draw_seed = NULL WHERE task_id = $1', [task()]),
  },
  'bill-above-cap': {
    do: async (tx) => {
      await tx.query('ALTER TABLE job DROP CONSTRAINT job_check');
      await tx.query('UPDATE job SET charged = charged + 1, cap = cap + 1 WHERE id = $1', [lived.open]);
    },
  },
  'pay-and-fee-are-the-bill': {
    do: (tx) => tx.query('UPDATE receipt SET fee = fee - 1 WHERE task_id = $1', [task()]),
    also: ['voucher-total'],
  },
  'hold-on-finished-job': {
    do: async (tx) => {
      await tx.query(
        `DELETE FROM posting USING ledger_transaction tx WHERE tx.id = transaction_id AND tx.kind = 'release' AND tx.ref = $1`,
        [lived.completed],
      );
      await tx.query(
        'UPDATE account SET balance = (SELECT coalesce(sum(amount), 0) FROM posting WHERE account_id = account.id)',
      );
    },
  },
  'hold-missing': {
    do: (tx) => tx.query('UPDATE job SET cap = cap + 1 WHERE id = $1', [lived.open]),
  },
  'transaction-unbalanced': {
    do: (tx) =>
      tx.query(
        `UPDATE posting SET amount = amount + CASE WHEN id = pair.a THEN 1 ELSE -1 END
         FROM (SELECT min(p.id) AS a, max(p.id) AS b FROM posting p JOIN account ON account.id = p.account_id AND account.kind = 'fees') AS pair,
           (SELECT 1) AS once
         WHERE posting.id IN (pair.a, pair.b)`,
      ),
    also: ['pay-and-fee-are-the-bill'],
  },
  'global-sum': {
    do: (tx) => tx.query(`UPDATE account SET balance = balance + 1 WHERE kind = 'fees'`),
    also: ['balance-drift'],
  },
  'balance-negative': {
    do: async (tx) => {
      await tx.query('ALTER TABLE account DROP CONSTRAINT account_check');
      const [spent] = await tx.query<{ id: string }>(
        `INSERT INTO ledger_transaction (kind, ref) VALUES ('refund', 'overdrawn') RETURNING id`,
      );
      await tx.query(
        `INSERT INTO posting (transaction_id, account_id, asset, amount)
         SELECT $1, id, asset, CASE kind WHEN 'balance' THEN -9000000 ELSE 9000000 END FROM account
         WHERE kind = 'operator' OR (kind = 'balance' AND owner = $2)`,
        [spent?.id, lived.org],
      );
      await tx.query(
        'UPDATE account SET balance = (SELECT coalesce(sum(amount), 0) FROM posting WHERE account_id = account.id)',
      );
    },
  },
  'balance-drift': {
    do: (tx) =>
      tx.query(
        `UPDATE account SET balance = balance + CASE kind WHEN 'operator' THEN -1 ELSE 1 END
         WHERE kind = 'operator' OR (kind = 'balance' AND owner = $1)`,
        [lived.org],
      ),
  },
  'voucher-total': { do: (tx) => tx.query('UPDATE voucher SET total = total + 1 WHERE task_id = $1', [task()]) },
  'receipt-in-two-epochs': {
    do: (tx) =>
      tx.query(
        `INSERT INTO chain_epoch (book, epoch, state, debits, credits) VALUES ('0xb', 7, 'closed', '{"0": "5"}', '{}')`,
      ),
  },
  'nonce-gap': {
    do: (tx) =>
      tx.query(
        `INSERT INTO chain_transaction (sender, nonce, purpose, ref, raw, hash)
         SELECT '0x1', n, 'p', n::text, '\\x00', sha256(n::text::bytea) FROM unnest(ARRAY[4, 6]) AS n`,
      ),
  },
  'confirmed-off-chain': {
    do: async (tx) => {
      await tx.query(`INSERT INTO chain_block (number, hash) VALUES (9, sha256('canonical'))`);
      await tx.query(
        `INSERT INTO chain_transaction (sender, nonce, purpose, ref, raw, hash, state, gas_used, block_number, block_hash)
         VALUES ('0x1', 0, 'p', 'r', '\\x00', sha256('tx'), 'confirmed', 1, 9, sha256('orphan'))`,
      );
    },
  },
  'escrow-is-ledger': { do: () => Promise.resolve(), facts: { chain: { escrowBalance: 5n } } },
};

/** Checks that watch over several things: the ways to break the others of them. */
const FURTHER_DAMAGE: readonly (readonly [check: string, what: RegExp, damage: (tx: Sql) => Promise<unknown>])[] = [
  [
    'row-without-one-end',
    /^row \d+ of job .* has an end, and was never asked for/,
    (tx) =>
      tx.query(`INSERT INTO row_end (job_id, row_no, state) SELECT id, row_count, 'expired' FROM job WHERE id = $1`, [
        lived.open,
      ]),
  ],
  [
    'row-without-one-end',
    /has (\d+) rows from 1 to \d+ where \1 were asked for/,
    (tx) => tx.query('UPDATE row_block SET row_from = row_from + 1 WHERE job_id = $1', [lived.open]),
  ],
  [
    'refers-to-nothing',
    /^task .* is of job batch_nobodys/,
    (tx) => tx.query(`UPDATE task SET job_id = 'batch_nobodys' WHERE id = $1`, [task()]),
  ],
  [
    'refers-to-nothing',
    /^task .* was last with node nobody/,
    (tx) => tx.query(`UPDATE task SET last_node = 'nobody' WHERE id = $1`, [task()]),
  ],
  [
    'refers-to-nothing',
    /^lease .* has no task/,
    (tx) => tx.query('UPDATE lease SET task_id = gen_random_uuid() WHERE task_id = $1', [task()]),
  ],
  [
    'refers-to-nothing',
    /^lease .* is of node nobody/,
    (tx) => tx.query(`UPDATE lease SET node_id = 'nobody' WHERE task_id = $1`, [task()]),
  ],
  [
    'tenant-mismatch',
    /^receipt .* is for job/,
    (tx) => tx.query('UPDATE receipt SET org_id = $2 WHERE task_id = $1', [task(), lived.org]),
  ],
  [
    'tenant-mismatch',
    /^lease .* names job/,
    (tx) => tx.query('UPDATE lease SET job_id = $2 WHERE task_id = $1', [task(), lived.completed]),
  ],
  [
    'tenant-mismatch',
    /^hold of job .* touches the balance of/,
    (tx) => tx.query('UPDATE job SET org_id = $2 WHERE id = $1', [lived.open, lived.org]),
  ],
  [
    'tenant-mismatch',
    /^voucher of task .* is charged to order/,
    (tx) => tx.query('UPDATE voucher SET order_index = 0 WHERE task_id = $1', [task()]),
  ],
  [
    'accepted-without-charge',
    /has a receipt and is delivered/,
    (tx) => tx.query(`UPDATE task SET state = 'delivered' WHERE id = $1`, [task()]),
  ],
  [
    'bill-above-cap',
    /^receipt .* counts embeddingToken at \d+ where its job admits 0/,
    (tx) =>
      tx.query(
        `UPDATE job SET rate_caps = '{"embeddingToken":"0"}' WHERE id = (SELECT job_id FROM receipt WHERE task_id = $1)`,
        [task()],
      ),
  ],
  [
    'billed-twice',
    /share rows/,
    (tx) =>
      tx.query(
        'UPDATE task SET row_to = row_to + 1 WHERE id = (SELECT id FROM task WHERE job_id = $1 AND row_from = 0)',
        [lived.completed],
      ),
  ],
  [
    'paid-without-verdict',
    /claims \d+ audited rows/,
    (tx) => tx.query('UPDATE receipt SET audited = audited + 1 WHERE task_id = $1', [task()]),
  ],
  [
    'paid-without-verdict',
    /found bad/,
    (tx) => tx.query(`UPDATE audit SET verdict = 'bad' WHERE task_id = $1`, [task()]),
  ],
  [
    'voucher-total',
    /has no receipt/,
    (tx) => tx.query('UPDATE voucher SET task_id = gen_random_uuid() WHERE task_id = $1', [task()]),
  ],
  [
    'receipt-in-two-epochs',
    /stands in \d+ vouchers/,
    async (tx) => {
      await tx.query('ALTER TABLE voucher DROP CONSTRAINT voucher_check2');
      await tx.query(`UPDATE voucher SET receipt_hash = sha256('one')`);
    },
  ],
];

describe('the doctor names what was broken', () => {
  it('and there is a way to break every one of its checks', () => {
    expect(Object.keys(DAMAGE).sort()).toEqual(DOCTOR_CHECKS.map(({ name }) => name).sort());
  });

  it.each(Object.keys(DAMAGE))('%s', async (name) => {
    const damage = DAMAGE[name];
    if (damage === undefined) throw new Error(name);
    const report = await after(damage.do, damage.facts);
    expect(named(report)).toEqual([name, ...(damage.also ?? [])].sort());
    expect(report.violations[0]?.what).toMatch(/\w/);
  });

  it.each(FURTHER_DAMAGE)('%s: %s', async (check, what, damage) => {
    const { violations } = await after(damage);
    expect(violations.filter((found) => found.check === check).map((found) => found.what)).toContainEqual(
      expect.stringMatching(what),
    );
  });

  it('and says nothing once the damage is undone', async () => {
    expect((await runDoctor(market.database)).violations).toEqual([]);
  });
});
