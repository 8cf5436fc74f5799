-- What a job's rows can count as at most, by kind of unit, as they were read when it began. What a change of its request would cost
-- follows from that, long after its file was read, or is gone. Null: a job that began before, and every chat.
ALTER TABLE job ADD COLUMN worst jsonb CHECK (jsonb_typeof(worst) = 'object');

DROP FUNCTION begin_batch(text, text, text, text, text, text, jsonb, text, text, float8, int, text, text, text, numeric, jsonb, float8,
  numeric, text[], text[], bigint[], int[], text, text, bytea, float8);
CREATE FUNCTION begin_batch(of_job text, of_org text, of_key text, of_endpoint text, of_file text, of_window text, of_metadata jsonb,
  of_verify text, of_region text, deadline_in_ms float8, of_priority int, of_model text, of_tuned text, of_adapter text,
  of_cap numeric, of_rate_caps jsonb, of_expected_s float8, of_counted numeric, of_prompt_blocks text[], of_worst jsonb,
  custom_ids text[], input_offsets bigint[], input_lengths int[],
  identity_key text, identity_route text, identity_hash bytea, replay_within_ms float8,
  OUT outcome text, OUT earlier text, OUT made job) LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT count(DISTINCT id) FROM unnest(custom_ids) AS id) <> cardinality(custom_ids) THEN
    outcome := 'refused';
    RETURN;
  END IF;
  PERFORM 1 FROM file WHERE id = of_file AND org_id = of_org AND purpose = 'batch' AND deleted_at IS NULL
    AND (expires_at IS NULL OR expires_at > clock_timestamp());
  IF NOT FOUND THEN
    outcome := 'refused';
    RETURN;
  END IF;
  -- A first try may take over the claim of an equal request before it. Where the money for it is not there, that claim is left as it
  -- was: who asks for the answer to the earlier request again gets it, and no second batch.
  BEGIN
    IF identity_key IS NOT NULL THEN
      SELECT claim.outcome, claim.earlier INTO outcome, earlier
        FROM claim_request(of_org, identity_key, identity_route, identity_hash, replay_within_ms, of_job) AS claim;
      IF outcome <> 'claimed' THEN
        RETURN;
      END IF;
    END IF;
    PERFORM 1 FROM hold_funds(of_org, of_key, of_job, of_cap) AS held WHERE held.refusal IS NULL;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'no money' USING ERRCODE = 'FH001';
    END IF;
  EXCEPTION WHEN SQLSTATE 'FH001' THEN
    outcome := 'refused';
    earlier := NULL;
    RETURN;
  END;
  INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, model, tuned_model, adapter, input_file_id, completion_window,
    metadata, verify, region, trust, cap, rate_caps, row_count, deadline, priority, expected_s, counted, prompt_blocks, worst,
    in_progress_at)
  SELECT of_job, org.id, of_key, 'batch', 'in_progress', of_endpoint, of_model, of_tuned, of_adapter, of_file, of_window,
    of_metadata, of_verify, of_region, org.trust, of_cap, of_rate_caps, cardinality(custom_ids),
    clock_timestamp() + deadline_in_ms * interval '1 millisecond', of_priority, of_expected_s, of_counted, of_prompt_blocks, of_worst,
    clock_timestamp()
  FROM org WHERE org.id = of_org
  RETURNING * INTO STRICT made;
  INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
  SELECT of_job, n, custom_ids[n + 1:n + 64], input_offsets[n + 1:n + 64], input_lengths[n + 1:n + 64]
  FROM generate_series(0, cardinality(custom_ids) - 1, 64) AS n;
  INSERT INTO outbox (topic, message) VALUES ('place', jsonb_build_object('job', of_job));
  -- An accepted batch is not lost, whatever the server does by default.
  PERFORM set_config('synchronous_commit', 'on', true);
  outcome := 'made';
END $$;
