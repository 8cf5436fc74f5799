-- A streamed request's first token must not wait for a conversation with the database: what opens it is one call.

-- Sets the cap of a job aside: out of its organisation's balance, into the job's hold. The key and the balance are locked
-- before they are read: of two jobs that come at once, the second sees what the first has taken. Live jobs count against
-- the key's daily cap (UTC) with their cap, finished ones with what they cost. A hold that is there already is left alone.
CREATE FUNCTION hold_funds(of_org text, of_key text, of_job text, of_amount numeric,
  OUT refusal text, OUT available numeric) LANGUAGE plpgsql AS $$
DECLARE
  of_cap numeric;
  from_account bigint;
  to_account bigint;
  entry bigint;
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

-- What an earlier request made is gone, or (a streamed one) ended without an answer and free of charge: done anew when repeated.
CREATE FUNCTION came_to_nothing(of_org text, of_subject text) RETURNS boolean LANGUAGE sql AS $$
  SELECT NOT EXISTS (SELECT 1 FROM job WHERE id = of_subject AND org_id = of_org
      AND (kind NOT IN ('chat', 'embedding') OR state NOT IN ('failed', 'expired', 'cancelled')))
    AND NOT EXISTS (SELECT 1 FROM file WHERE id = of_subject AND org_id = of_org AND deleted_at IS NULL
      AND (expires_at IS NULL OR expires_at > clock_timestamp()))
$$;

-- Claims a request's identity for what it is about to make. Of requests that come at once, one inserts and the others wait
-- for its commit and then read what it made.
CREATE FUNCTION claim_request(of_org text, of_key text, of_route text, of_body_hash bytea, replay_within_ms float8, of_subject text,
  OUT outcome text, OUT earlier text) LANGUAGE plpgsql AS $$
DECLARE
  known idempotency;
BEGIN
  outcome := 'claimed';
  INSERT INTO idempotency (org_id, key, route, body_hash, status, subject)
    VALUES (of_org, of_key, of_route, of_body_hash, 200, of_subject) ON CONFLICT (org_id, key) DO NOTHING;
  IF FOUND THEN
    RETURN;
  END IF;
  SELECT * INTO known FROM idempotency WHERE org_id = of_org AND key = of_key FOR UPDATE;
  IF known.created_at > clock_timestamp() - replay_within_ms * interval '1 millisecond' THEN
    IF known.route <> of_route OR known.body_hash <> of_body_hash THEN
      outcome := 'key-reused';
      RETURN;
    END IF;
    IF NOT came_to_nothing(of_org, known.subject) THEN
      outcome := 'repeated';
      earlier := known.subject;
      RETURN;
    END IF;
  END IF;
  -- Inserted again when it was forgotten between the two looks.
  INSERT INTO idempotency (org_id, key, route, body_hash, status, subject)
    VALUES (of_org, of_key, of_route, of_body_hash, 200, of_subject)
    ON CONFLICT (org_id, key) DO UPDATE SET route = excluded.route, body_hash = excluded.body_hash,
      subject = excluded.subject, created_at = clock_timestamp();
END $$;

-- Everything a streamed request needs to be billed: identity, hold, job, row, task and lease, all of it or none. The job
-- outlives its lease by as much again, for the verdict. Its commit does not wait for the disk: the commit of the answer does,
-- and makes everything before it durable, because the log is written in order.
CREATE FUNCTION open_stream(of_job text, of_org text, of_key text, of_kind text, of_endpoint text, of_model text, of_metadata jsonb,
  of_verify text, of_region text, of_cap numeric, of_rate_caps jsonb, lease_ms float8, of_input_length integer, of_task uuid,
  of_node text, of_nonce bytea, of_digest text, of_engine_class text, of_rates jsonb,
  identity_key text, identity_route text, identity_hash bytea, replay_within_ms float8,
  OUT outcome text, OUT available numeric, OUT earlier text) LANGUAGE plpgsql AS $$
BEGIN
  IF identity_key IS NOT NULL THEN
    SELECT * INTO outcome, earlier
      FROM claim_request(of_org, identity_key, identity_route, identity_hash, replay_within_ms, of_job);
    IF outcome <> 'claimed' THEN
      RETURN;
    END IF;
  END IF;
  SELECT * INTO outcome, available FROM hold_funds(of_org, of_key, of_job, of_cap);
  IF outcome IS NOT NULL THEN
    DELETE FROM idempotency WHERE org_id = of_org AND key = identity_key;
    RETURN;
  END IF;
  INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, model, metadata, verify, region, trust, cap, rate_caps,
    row_count, next_row, deadline, in_progress_at)
  SELECT of_job, org.id, of_key, of_kind, 'in_progress', of_endpoint, of_model, of_metadata, of_verify, of_region, org.trust,
    of_cap, of_rate_caps, 1, 1, clock_timestamp() + 2 * lease_ms * interval '1 millisecond', clock_timestamp()
  FROM org WHERE org.id = of_org;
  INSERT INTO job_row (job_id, row_no, custom_id, input_offset, input_length) VALUES (of_job, 0, of_job, 0, of_input_length);
  INSERT INTO task (id, job_id, org_id, row_from, row_to, state, epoch) VALUES (of_task, of_job, of_org, 0, 1, 'leased', 1);
  INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)
    VALUES (of_task, 1, of_node, of_job, of_nonce, of_model, of_digest, of_engine_class, of_rates, 'stream',
      clock_timestamp() + lease_ms * interval '1 millisecond');
  PERFORM set_config('synchronous_commit', 'off', true);
  outcome := 'opened';
END $$;
