-- An order that closes pays for what is accepted until its last epoch. Work that would be accepted later is nobody's to pay for.

DROP INDEX chain_order_by_org;
CREATE INDEX chain_order_by_org ON chain_order (org_id) WHERE org_id IS NOT NULL;

-- What of an organisation's orders may still be charged for work that is accepted in the next epoch; null while none of them
-- closes: then everything that is held is covered. `coveredBy` of domain/ledger says the same.
CREATE FUNCTION covered_of(of_org text) RETURNS numeric LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN bool_or(o.state IN ('closing', 'refunded')) THEN
    coalesce(sum(o.reserved - o.spent) FILTER (WHERE o.state = 'open'
      OR (o.state = 'closing' AND coalesce(o.close_epoch > e.epoch, true))), 0) END
  FROM chain_order o JOIN chain_book b ON b.book = o.book AND b.state = 'alive'
  LEFT JOIN chain_epoch e ON e.book = o.book AND e.state = 'open'
  WHERE o.org_id = of_org AND NOT o.is_operator
$$;

-- As before, and of the balance only what is covered may be held for something new.
CREATE OR REPLACE FUNCTION hold_funds(of_org text, of_key text, of_job text, of_amount numeric,
  OUT refusal text, OUT available numeric) LANGUAGE plpgsql AS $$
DECLARE
  of_cap numeric;
  from_account bigint;
  to_account bigint;
  entry bigint;
  covered numeric;
BEGIN
  SELECT daily_cap INTO of_cap FROM api_key WHERE id = of_key AND daily_cap IS NOT NULL FOR UPDATE;
  IF of_cap IS NOT NULL THEN
    SELECT greatest(0, of_cap - coalesce(sum(
        CASE WHEN state IN ('validating', 'in_progress', 'finalizing', 'cancelling') THEN coalesce(cap, 0) ELSE charged END), 0))
      INTO available FROM job
      WHERE api_key_id = of_key AND id <> of_job AND created_at >= date_trunc('day', clock_timestamp(), 'UTC');
    IF available < of_amount THEN
      refusal := 'daily-cap';
      RETURN;
    END IF;
  END IF;
  SELECT id, balance INTO from_account, available FROM account
    WHERE kind = 'balance' AND owner = of_org AND asset = 'money' FOR UPDATE;
  available := coalesce(available, 0);
  -- Credits are the operator's to pay for, whatever becomes of orders.
  SELECT covered_of(of_org) INTO covered FROM org WHERE id = of_org AND trust = 'self-custody';
  IF covered IS NOT NULL THEN
    SELECT least(available, greatest(0, covered - coalesce(sum(account.balance), 0))) INTO available
      FROM job JOIN account ON account.kind = 'hold' AND account.owner = job.id AND account.asset = 'money'
      WHERE job.org_id = of_org AND job.id <> of_job AND job.state IN ('in_progress', 'cancelling');
  END IF;
  IF available < of_amount THEN
    refusal := 'insufficient-balance';
    RETURN;
  END IF;
  IF of_amount = 0 THEN
    RETURN;
  END IF;
  INSERT INTO ledger_transaction (kind, ref) VALUES ('hold', of_job) ON CONFLICT (kind, ref) DO NOTHING RETURNING id INTO entry;
  IF entry IS NULL THEN
    RETURN;
  END IF;
  INSERT INTO account (kind, owner, asset) VALUES ('hold', of_job, 'money') ON CONFLICT DO NOTHING;
  SELECT id INTO STRICT to_account FROM account WHERE kind = 'hold' AND owner = of_job AND asset = 'money';
  INSERT INTO posting (transaction_id, account_id, asset, amount)
    VALUES (entry, from_account, 'money', -of_amount), (entry, to_account, 'money', of_amount);
END $$;
