import { ledger } from '@freehold/domain';
import { balanceOfAccount } from '../ledger/ledger.ts';
import { type DoctorCheck, sqlCheck } from './check.ts';

/** Receipts, charges, holds, vouchers and accounts: paid once, for accepted work, within the cap, and it all adds up. */
export const MONEY_CHECKS: readonly DoctorCheck[] = [
  sqlCheck(
    'billed-without-receipt',
    'every charge has the receipt of an accepted lease',
    `SELECT 'charge ' || tx.id || ' for task ' || tx.ref || ' has no receipt' AS what
     FROM ledger_transaction tx WHERE tx.kind = 'charge' AND NOT EXISTS (SELECT 1 FROM receipt r WHERE r.task_id::text = tx.ref)`,
  ),
  sqlCheck(
    'billed-twice',
    'no task and no row is paid for twice',
    `SELECT 'task ' || ref || ' is charged ' || count(*) || ' times' AS what
     FROM ledger_transaction WHERE kind = 'charge' GROUP BY ref HAVING count(*) > 1
     UNION ALL
     SELECT 'task ' || task_id || ' has ' || count(*) || ' receipts' FROM receipt GROUP BY task_id HAVING count(*) > 1
     UNION ALL
     SELECT 'accepted tasks ' || id || ' and ' || next_id || ' of job ' || job_id || ' share rows'
     FROM (SELECT id, job_id, row_to, lead(id) OVER later AS next_id, lead(row_from) OVER later AS next_from
       FROM task WHERE state = 'accepted' WINDOW later AS (PARTITION BY job_id ORDER BY row_from, row_to)) AS t
     WHERE next_from < row_to`,
  ),
  sqlCheck(
    'accepted-without-charge',
    'an accepted task has its receipt and its charge, and a receipt has its accepted task',
    `SELECT 'task ' || t.id || ' is accepted without a receipt' AS what
     FROM task t WHERE t.state = 'accepted' AND NOT EXISTS (SELECT 1 FROM receipt r WHERE r.task_id = t.id)
     UNION ALL
     SELECT 'task ' || t.id || ' has a receipt and is ' || t.state FROM receipt r JOIN task t ON t.id = r.task_id WHERE t.state <> 'accepted'
     UNION ALL
     SELECT 'receipt ' || r.task_id || ' over ' || r.charge || ' was never charged' FROM receipt r
     WHERE r.charge > 0 AND NOT EXISTS (SELECT 1 FROM ledger_transaction tx WHERE tx.kind = 'charge' AND tx.ref = r.task_id::text)`,
  ),
  sqlCheck(
    'receipt-epoch',
    'a receipt names the epoch that won',
    `SELECT 'receipt ' || r.task_id || ' is for epoch ' || r.epoch || ', the task ended in epoch ' || t.epoch || ' and that lease is '
       || coalesce(l.outcome, 'open') AS what
     FROM receipt r JOIN task t ON t.id = r.task_id JOIN lease l ON l.task_id = r.task_id AND l.epoch = r.epoch
     WHERE r.epoch <> t.epoch OR l.outcome IS DISTINCT FROM 'accepted' OR l.node_id <> r.node_id OR l.checkpoint_root <> r.root`,
  ),
  sqlCheck(
    'paid-without-verdict',
    'work is paid only after its verdict: drawn as its job asked, as often audited as the receipt says, and no row found bad',
    `SELECT 'task ' || r.task_id || ' was paid without a draw though its job says ' || job.verify AS what
     FROM receipt r JOIN job ON job.id = r.job_id JOIN lease l ON l.task_id = r.task_id AND l.epoch = r.epoch
     WHERE job.verify <> 'off' AND l.draw_rows IS NULL
     UNION ALL
     SELECT 'task ' || r.task_id || ' claims ' || r.audited || ' audited rows, ' || a.rows || ' were'
     FROM receipt r JOIN LATERAL (SELECT count(DISTINCT row_no) AS rows FROM audit
       WHERE audit.task_id = r.task_id AND audit.epoch = r.epoch AND verdict <> 'unsure') AS a ON true WHERE r.audited > a.rows
     UNION ALL
     SELECT 'task ' || r.task_id || ' was paid with row ' || a.row_no || ' found bad'
     FROM receipt r JOIN LATERAL (SELECT row_no FROM audit WHERE audit.task_id = r.task_id AND audit.epoch = r.epoch GROUP BY row_no
       HAVING count(*) FILTER (WHERE verdict = 'bad') > count(*) FILTER (WHERE verdict = 'good')) AS a ON true`,
  ),
  sqlCheck(
    'bill-above-cap',
    'no job costs more than its cap, no unit of it more than the job admits, and it costs what its receipts say',
    `SELECT 'job ' || job.id || ' was charged ' || job.charged || ' of a cap of ' || coalesce(job.cap, 0) || ', its receipts say ' || r.sum AS what
     FROM job JOIN LATERAL (SELECT coalesce(sum(charge), 0) AS sum FROM receipt WHERE job_id = job.id) AS r ON true
     WHERE job.charged > coalesce(job.cap, 0) OR r.sum <> job.charged
     UNION ALL
     SELECT 'receipt ' || r.task_id || ' counts ' || cap.key || ' at ' || (r.rates ->> cap.key) || ' where its job admits ' || cap.value
     FROM receipt r JOIN job ON job.id = r.job_id JOIN LATERAL jsonb_each_text(job.rate_caps) AS cap ON true
     WHERE job.kind IN ('batch', 'fine-tune') AND (r.rates ->> cap.key)::numeric > cap.value::numeric`,
  ),
  sqlCheck(
    'pay-and-fee-are-the-bill',
    'of each charge the hold loses all, the provider gets the charge less the fee, the fees get the fee',
    `SELECT 'charge of task ' || r.task_id || ': hold ' || p.hold || ', provider ' || p.provider || ', fees ' || p.fees
       || '; the receipt says ' || r.charge || ' with a fee of ' || r.fee AS what
     FROM receipt r JOIN ledger_transaction tx ON tx.kind = 'charge' AND tx.ref = r.task_id::text
     JOIN LATERAL (
       SELECT coalesce(sum(amount) FILTER (WHERE a.kind = 'hold' AND a.owner = r.job_id), 0) AS hold,
         coalesce(sum(amount) FILTER (WHERE a.kind = 'provider' AND a.owner = r.payout), 0) AS provider,
         coalesce(sum(amount) FILTER (WHERE a.kind = 'fees'), 0) AS fees
       FROM posting JOIN account a ON a.id = posting.account_id WHERE transaction_id = tx.id) AS p ON true
     WHERE (p.hold, p.provider, p.fees) <> (-r.charge, r.charge - r.fee, r.fee)`,
  ),
  sqlCheck(
    'hold-on-finished-job',
    'a job that is over holds no money',
    `SELECT 'job ' || a.owner || ' is ' || coalesce(job.state, 'unknown') || ' and still holds ' || a.balance AS what
     FROM account a LEFT JOIN job ON job.id = a.owner
     WHERE a.kind = 'hold' AND a.balance <> 0 AND (job.id IS NULL OR job.state IN ('completed', 'failed', 'expired', 'cancelled'))`,
  ),
  sqlCheck(
    'hold-missing',
    'a live job holds exactly what is left of its cap',
    `SELECT 'job ' || job.id || ' has ' || (job.cap - job.charged) || ' left of its cap and holds ' || coalesce(a.balance, 0) AS what
     FROM job LEFT JOIN account a ON a.kind = 'hold' AND a.owner = job.id AND a.asset = job.asset
     WHERE job.state IN ('in_progress', 'finalizing', 'cancelling') AND job.cap IS NOT NULL
       AND coalesce(a.balance, 0) <> job.cap - job.charged`,
  ),
  sqlCheck(
    'transaction-unbalanced',
    'each ledger transaction adds up to zero per asset',
    `SELECT 'transaction ' || transaction_id || ' is off by ' || sum(amount) || ' ' || asset AS what
     FROM posting GROUP BY transaction_id, asset HAVING sum(amount) <> 0`,
  ),
  sqlCheck(
    'global-sum',
    'all balances together are zero per asset',
    `SELECT 'all accounts together hold ' || sum(balance) || ' ' || asset AS what FROM account GROUP BY asset HAVING sum(balance) <> 0`,
  ),
  sqlCheck(
    'balance-negative',
    'nobody but the escrow and the operator is below zero',
    `SELECT kind || ' of ' || owner || ' is ' || balance AS what FROM account WHERE balance < 0 AND kind NOT IN ('escrow', 'operator')`,
  ),
  sqlCheck(
    'balance-drift',
    'a balance is the sum of its postings',
    `SELECT kind || ' of ' || owner || ' says ' || balance || ', its postings say ' || coalesce(p.sum, 0) AS what
     FROM account a LEFT JOIN (SELECT account_id, sum(amount) AS sum FROM posting GROUP BY account_id) AS p ON p.account_id = a.id
     WHERE a.balance <> coalesce(p.sum, 0)`,
  ),
  sqlCheck(
    'voucher-total',
    'vouchers rise by exactly the accepted net charge, per order and in total',
    `SELECT 'voucher of task ' || task_id || ': cumulative ' || cumulative || ' instead of ' || sum_order || ', total ' || total
       || ' instead of ' || sum_all AS what
     FROM (SELECT *, sum(net) OVER (PARTITION BY book, book_epoch, payee ORDER BY total, created_at) AS sum_all,
         sum(net) OVER (PARTITION BY book, book_epoch, payee, order_index ORDER BY cumulative, created_at) AS sum_order FROM voucher) AS v
     WHERE total <> sum_all OR cumulative <> sum_order
     UNION ALL
     SELECT 'voucher of task ' || v.task_id || ' says ' || v.net || ' of ' || v.gross || ', its receipt ' || (r.charge - r.fee) || ' of ' || r.charge
     FROM voucher v JOIN receipt r ON r.task_id = v.task_id WHERE v.gross <> r.charge OR v.net <> r.charge - r.fee
     UNION ALL
     SELECT 'voucher ' || v.task_id || ' (' || v.kind || ') has no receipt' FROM voucher v
     WHERE NOT EXISTS (SELECT 1 FROM receipt r WHERE r.task_id = v.task_id AND v.kind = 'work')
       AND NOT EXISTS (SELECT 1 FROM audit_receipt a WHERE a.id = v.task_id AND v.kind = 'audit' AND a.amount = v.net AND a.payout = v.payee)`,
  ),
  sqlCheck(
    'auditor-pay',
    'an auditor is paid once for a lease, out of the fee that says so, and no fee pays more than it is',
    `SELECT 'audit receipt ' || a.id || ' over ' || a.amount || ' is ' || CASE WHEN a.paid_by IS NULL THEN 'unpaid' ELSE 'paid' END
       || ', the ledger paid ' || coalesce(p.paid, 0) AS what
     FROM audit_receipt a LEFT JOIN LATERAL (
       SELECT sum(posting.amount) AS paid FROM ledger_transaction tx JOIN posting ON posting.transaction_id = tx.id
       JOIN account ON account.id = posting.account_id AND account.kind = 'provider' AND account.owner = a.payout
       WHERE tx.kind = 'audit-fee' AND tx.ref = a.id::text) AS p ON true
     WHERE coalesce(p.paid, 0) <> CASE WHEN a.paid_by IS NULL THEN 0 ELSE a.amount END
     UNION ALL
     SELECT 'audit fee ' || tx.ref || ' has no audit receipt' FROM ledger_transaction tx
     WHERE tx.kind = 'audit-fee' AND NOT EXISTS (SELECT 1 FROM audit_receipt a WHERE a.id::text = tx.ref)
     UNION ALL
     SELECT 'the fee ' || r.fee || ' of task ' || r.task_id || ' pays auditors ' || sum(a.amount)
     FROM receipt r JOIN audit_receipt a ON a.paid_by = r.task_id GROUP BY r.task_id, r.fee HAVING sum(a.amount) > r.fee`,
  ),
  sqlCheck(
    'receipt-in-two-epochs',
    'a receipt is settled in one epoch, and a closed epoch settles exactly the vouchers accepted into it',
    `SELECT 'receipt 0x' || encode(receipt_hash, 'hex') || ' stands in ' || count(*) || ' vouchers, of epochs '
       || string_agg(book_epoch::text, ', ') AS what
     FROM voucher WHERE receipt_hash IS NOT NULL GROUP BY receipt_hash HAVING count(*) > 1
     UNION ALL
     SELECT 'epoch ' || e.epoch || ' was closed with debits ' || e.debits || ' and credits ' || e.credits
       || ', its vouchers say ' || v.debits || ' and ' || v.credits
     FROM chain_epoch e CROSS JOIN LATERAL (SELECT
       (SELECT coalesce(jsonb_object_agg(order_index, gross), '{}') FROM (SELECT order_index, sum(gross)::text AS gross
          FROM voucher WHERE book = e.book AND book_epoch = e.epoch GROUP BY order_index) AS o) AS debits,
       (SELECT coalesce(jsonb_object_agg(payee, net), '{}') FROM (SELECT payee, sum(net)::text AS net
          FROM voucher WHERE book = e.book AND book_epoch = e.epoch GROUP BY payee) AS p) AS credits) AS v
     WHERE e.state <> 'open' AND (e.debits, e.credits) IS DISTINCT FROM (v.debits, v.credits)`,
  ),
  sqlCheck(
    'nonce-gap',
    'the nonces of a sender have no gap',
    `SELECT 'sender ' || sender || ' used ' || count(*) || ' nonces from ' || min(nonce) || ' to ' || max(nonce) AS what
     FROM chain_transaction WHERE state <> 'replaced' GROUP BY sender HAVING max(nonce) - min(nonce) + 1 <> count(*)`,
  ),
  sqlCheck(
    'confirmed-off-chain',
    'a confirmed transaction is in a block of the chain as we know it',
    `SELECT 'transaction ' || t.id || ' (' || t.purpose || ') is confirmed in block ' || t.block_number || ' 0x' || encode(t.block_hash, 'hex')
       || ', the chain has 0x' || encode(b.hash, 'hex') AS what
     FROM chain_transaction t JOIN chain_block b ON b.number = t.block_number WHERE t.state = 'confirmed' AND b.hash <> t.block_hash`,
  ),
  {
    name: 'escrow-is-ledger',
    claim: 'what the escrow holds on chain is what the ledger says',
    needs: (facts) => facts.chain !== undefined,
    find: async (sql, facts) => {
      if (facts.chain === undefined) return [];
      const booked = -(await balanceOfAccount(sql, ledger.ESCROW));
      const { escrowBalance } = facts.chain;
      return escrowBalance === booked ? [] : [`the escrow holds ${escrowBalance}, the ledger says ${booked}`];
    },
  },
];
